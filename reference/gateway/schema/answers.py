"""The answers of the gateway's routes, as its openapi.json describes them; engines may add fields of their own."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from reference.gateway.schema.parts import CalledFunction, ToolCall
from reference.gateway.schema.shapes import Integer, open_object


@open_object
class ErrorDetail(TypedDict):
    """What went wrong: in words, by kind, the field at fault, and a code for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


@open_object
class Error(TypedDict):
    """The answer of everything that fails."""

    error: ErrorDetail


@open_object
class Usage(TypedDict):
    """How many tokens it took."""

    prompt_tokens: Integer
    completion_tokens: Integer
    total_tokens: Integer


@open_object
class AnswerMessage(TypedDict):
    """What the model says."""

    role: Literal["assistant"]
    content: str | None
    refusal: NotRequired[str | None]
    tool_calls: NotRequired[list[ToolCall]]
    function_call: NotRequired[CalledFunction | None]


@open_object
class ChatChoice(TypedDict):
    """One of the answers."""

    index: Integer
    message: AnswerMessage
    finish_reason: str | None
    logprobs: NotRequired[dict[str, Any] | None]


@open_object
class ChatCompletion(TypedDict):
    """An answer to a chat that is not streamed; a stream is events with chunks of it, the last one `[DONE]`."""

    id: str
    object: Literal["chat.completion"]
    created: Integer
    model: str
    choices: list[ChatChoice]
    usage: NotRequired[Usage | None]


@open_object
class TextChoice(TypedDict):
    """One of the texts."""

    index: Integer
    text: str
    finish_reason: str | None
    logprobs: NotRequired[dict[str, Any] | None]


@open_object
class Completion(TypedDict):
    """A text that is not streamed."""

    id: str
    object: Literal["text_completion"]
    created: Integer
    model: str
    choices: list[TextChoice]
    usage: NotRequired[Usage | None]


@open_object
class InputUsage(TypedDict):
    """How many tokens were read."""

    prompt_tokens: Integer
    total_tokens: Integer


@open_object
class Embedding(TypedDict):
    """The vector of one input: numbers, or base64 of little-endian floats where that was asked for."""

    object: Literal["embedding"]
    index: Integer
    embedding: list[float] | str


@open_object
class Embeddings(TypedDict):
    """The vectors of all inputs, in their order."""

    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: InputUsage


@open_object
class Classification(TypedDict):
    """The label of one input, with the probability of each."""

    index: Integer
    label: str
    probs: list[float]
    num_classes: Integer


@open_object
class Classifications(TypedDict):
    """The labels of all inputs, in their order."""

    object: Literal["list"]
    model: str
    data: list[Classification]


@open_object
class ModelEntry(TypedDict):
    """A model, or an alias of one."""

    id: str
    object: Literal["model"]
    created: Integer
    owned_by: str


@open_object
class Models(TypedDict):
    """The models that a key may use."""

    object: Literal["list"]
    data: list[ModelEntry]
