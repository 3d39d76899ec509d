"""The requests of `/v1/completions`, `/v1/embeddings` and `/v1/classify`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from annotated_types import MaxLen, MinLen
from pydantic import Discriminator, Field, Tag
from typing_extensions import TypedDict

from reference.gateway.schema.shapes import (
    Int64,
    Integer,
    Model,
    Penalty,
    Share,
    Stop,
    StreamOptions,
    Temperature,
    Whole,
    closed_object,
    open_object,
)

MAX_INPUTS = 2048


def _kind(value: Any) -> str | None:
    """Say which of four shapes a prompt has, by its first element: no other one has to be tried, and complained of."""
    if isinstance(value, str):
        return "text"
    if not isinstance(value, list):
        return None
    first = value[0] if value else ""
    if isinstance(first, str):
        return "texts"
    return "token_lists" if isinstance(first, list) else "tokens"


_BY_KIND = Discriminator(
    _kind,
    custom_error_type="prompt",
    custom_error_message="Input should be text, a list of texts, a list of tokens, or a list of such lists",
)
_Tokens = Annotated[list[Integer], MinLen(1), Field(fail_fast=True)]

Prompt = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[list[str], Field(fail_fast=True), Tag("texts")]
    | Annotated[list[Integer], MinLen(1), Field(fail_fast=True), Tag("tokens")]
    | Annotated[list[_Tokens], MinLen(1), Field(fail_fast=True), Tag("token_lists")],
    _BY_KIND,
]
Input = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[list[str], MinLen(1), MaxLen(MAX_INPUTS), Field(fail_fast=True), Tag("texts")]
    | Annotated[list[Integer], MinLen(1), MaxLen(MAX_INPUTS), Field(fail_fast=True), Tag("tokens")]
    | Annotated[list[_Tokens], MinLen(1), MaxLen(MAX_INPUTS), Field(fail_fast=True), Tag("token_lists")],
    _BY_KIND,
]


@open_object
class CompletionRequest(TypedDict):
    """A text completion."""

    model: Model
    prompt: Prompt | None
    best_of: NotRequired[Annotated[int, Whole(0, 20)] | None]
    echo: NotRequired[bool | None]
    frequency_penalty: NotRequired[Penalty | None]
    presence_penalty: NotRequired[Penalty | None]
    temperature: NotRequired[Temperature | None]
    top_p: NotRequired[Share | None]
    n: NotRequired[Annotated[int, Whole(1, 128)] | None]
    max_tokens: NotRequired[Annotated[int, Whole(0)] | None]
    stop: NotRequired[Stop]
    seed: NotRequired[Int64 | None]
    stream: NotRequired[bool | None]
    stream_options: NotRequired[StreamOptions | None]
    logit_bias: NotRequired[dict[str, Integer] | None]
    logprobs: NotRequired[Annotated[int, Whole(0, 5)] | None]
    suffix: NotRequired[str | None]
    user: NotRequired[str]


@closed_object
class EmbeddingRequest(TypedDict):
    """Embeddings of one text or several. The last fields are those of engines that OpenAI's API does not have."""

    model: Model
    input: Input
    encoding_format: NotRequired[Literal["float", "base64"]]
    dimensions: NotRequired[Annotated[int, Whole(1)]]
    user: NotRequired[str]
    truncate_prompt_tokens: NotRequired[Annotated[int, Whole(-1)] | None]
    add_special_tokens: NotRequired[bool]
    normalize: NotRequired[bool | None]
    priority: NotRequired[Integer]


@open_object
class ClassifyRequest(TypedDict):
    """Labels of one text or several, by a classification model; not in OpenAI's API, the shape is vLLM's."""

    model: Model
    input: Input
    user: NotRequired[str]
