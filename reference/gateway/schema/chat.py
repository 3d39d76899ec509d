"""The request of `/v1/chat/completions`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from annotated_types import MaxLen, MinLen
from pydantic import Field
from typing_extensions import TypedDict

from reference.gateway.schema.parts import Message, TextPart
from reference.gateway.schema.shapes import (
    LARGEST_SEED,
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


@open_object
class Function(TypedDict):
    """A function that the model may call."""

    name: str
    description: NotRequired[str]
    parameters: NotRequired[dict[str, Any]]
    strict: NotRequired[bool | None]


@open_object
class FunctionTool(TypedDict):
    """A tool that is a function."""

    type: Literal["function"]
    function: Function


@open_object
class Grammar(TypedDict):
    """A grammar and its language."""

    definition: str
    syntax: Literal["lark", "regex"]


@closed_object
class TextFormat(TypedDict):
    """Any text."""

    type: Literal["text"]


@closed_object
class GrammarFormat(TypedDict):
    """Text by a grammar."""

    type: Literal["grammar"]
    grammar: Grammar


@open_object
class Custom(TypedDict):
    """A tool that takes text."""

    name: str
    description: NotRequired[str]
    format: NotRequired[Annotated[TextFormat | GrammarFormat, Field(discriminator="type")]]


@open_object
class CustomTool(TypedDict):
    """A custom tool."""

    type: Literal["custom"]
    custom: Custom


@open_object
class Named(TypedDict):
    """A name."""

    name: str


@open_object
class ThisFunction(TypedDict):
    """The function that is to be called."""

    type: Literal["function"]
    function: Named


@open_object
class ThisCustomTool(TypedDict):
    """The custom tool that is to be called."""

    type: Literal["custom"]
    custom: Named


@open_object
class Allowed(TypedDict):
    """Tools of which one may or must be called."""

    mode: Literal["auto", "required"]
    tools: list[dict[str, Any]]


@open_object
class AllowedTools(TypedDict):
    """A choice among some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: Allowed


ToolChoice = (
    Literal["none", "auto", "required"]
    | Annotated[ThisFunction | ThisCustomTool | AllowedTools, Field(discriminator="type")]
)


@open_object
class AsText(TypedDict):
    """An answer in words."""

    type: Literal["text"]


@open_object
class AsJson(TypedDict):
    """An answer that is a JSON object."""

    type: Literal["json_object"]


@open_object
class NamedSchema(TypedDict):
    """A JSON schema and its name."""

    name: str
    description: NotRequired[str]
    schema: NotRequired[dict[str, Any]]
    strict: NotRequired[bool | None]


@open_object
class BySchema(TypedDict):
    """An answer that is JSON by a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


@closed_object
class OwnVoice(TypedDict):
    """A voice by its id."""

    id: str


@open_object
class AudioAnswer(TypedDict):
    """How an answer in sound is to be."""

    voice: str | OwnVoice
    format: Literal["wav", "aac", "mp3", "flac", "opus", "pcm16"]


@open_object
class Prediction(TypedDict):
    """What the answer is likely to be."""

    type: Literal["content"]
    content: str | Annotated[list[TextPart], MinLen(1)]


@open_object
class Place(TypedDict):
    """Where the user is, about."""

    country: NotRequired[str]
    region: NotRequired[str]
    city: NotRequired[str]
    timezone: NotRequired[str]


@open_object
class UserPlace(TypedDict):
    """Where the user is."""

    type: Literal["approximate"]
    approximate: Place


@open_object
class WebSearch(TypedDict):
    """How the web is to be searched."""

    user_location: NotRequired[UserPlace | None]
    search_context_size: NotRequired[Literal["low", "medium", "high"]]


@open_object
class ModerationMode(TypedDict):
    """What is done with the result."""

    mode: Literal["score", "block"]


@open_object
class ModerationPolicy(TypedDict):
    """What is moderated."""

    input: NotRequired[ModerationMode | None]
    output: NotRequired[ModerationMode | None]


@open_object
class Moderation(TypedDict):
    """Moderation with the answer."""

    model: str
    policy: NotRequired[ModerationPolicy | None]


@open_object
class PromptCache(TypedDict):
    """How the prompt may be cached."""

    mode: NotRequired[Literal["implicit", "explicit"]]
    ttl: NotRequired[Literal["30m"]]


@open_object
class ChatRequest(TypedDict):
    """A chat completion. Fields that a model of ours cannot have (sound, web search) are taken and do nothing."""

    model: Model
    messages: Annotated[list[Message], MinLen(1)]
    frequency_penalty: NotRequired[Penalty | None]
    presence_penalty: NotRequired[Penalty | None]
    temperature: NotRequired[Temperature | None]
    top_p: NotRequired[Share | None]
    n: NotRequired[Annotated[int, Whole(1, 128)] | None]
    max_tokens: NotRequired[Integer | None]
    max_completion_tokens: NotRequired[Integer | None]
    stop: NotRequired[Stop]
    seed: NotRequired[Annotated[int, Whole(-LARGEST_SEED, LARGEST_SEED)] | None]
    stream: NotRequired[bool | None]
    stream_options: NotRequired[StreamOptions | None]
    logit_bias: NotRequired[dict[str, Integer] | None]
    logprobs: NotRequired[bool | None]
    top_logprobs: NotRequired[Annotated[int, Whole(0, 20)]]
    response_format: NotRequired[Annotated[AsText | AsJson | BySchema, Field(discriminator="type")]]
    tools: NotRequired[list[Annotated[FunctionTool | CustomTool, Field(discriminator="type")]]]
    tool_choice: NotRequired[ToolChoice]
    parallel_tool_calls: NotRequired[bool]
    functions: NotRequired[Annotated[list[Function], MinLen(1), MaxLen(128)]]
    function_call: NotRequired[Literal["none", "auto"] | Named]
    user: NotRequired[str]
    safety_identifier: NotRequired[Annotated[str, MaxLen(64)] | None]
    metadata: NotRequired[dict[str, str] | None]
    store: NotRequired[bool | None]
    service_tier: NotRequired[Literal["auto", "default", "flex", "scale", "priority", "fast"] | None]
    reasoning_effort: NotRequired[Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None]
    verbosity: NotRequired[Literal["low", "medium", "high"] | None]
    modalities: NotRequired[list[Literal["text", "audio"]] | None]
    audio: NotRequired[AudioAnswer | None]
    prediction: NotRequired[Prediction | None]
    web_search_options: NotRequired[WebSearch]
    moderation: NotRequired[Moderation | None]
    prompt_cache_key: NotRequired[str | None]
    prompt_cache_options: NotRequired[PromptCache]
    prompt_cache_retention: NotRequired[Literal["in_memory", "24h"] | None]
