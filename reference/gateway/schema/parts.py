"""The parts of a message's content, the tool calls of an assistant, and the messages by role."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from annotated_types import MinLen
from pydantic import Field
from typing_extensions import TypedDict

from reference.gateway.schema.shapes import open_object

_NAME = r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"
_PATH = rf"(?:{_NAME}|[:@/])*"
_HOST = rf"(?:\[[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*\]|{_NAME}*)"
_URI = (
    rf"^[A-Za-z][A-Za-z0-9+.-]*:"
    rf"(?://(?:(?:{_NAME}|:)*@)?{_HOST}(?::[0-9]*)?(?:/{_PATH})?|/(?:(?:{_NAME}|[:@]){_PATH})?|(?:(?:{_NAME}|[:@]){_PATH})?)"
    rf"(?:\?(?:{_NAME}|[:@/?])*)?(?:#(?:{_NAME}|[:@/?])*)?$"
)
Url = Annotated[str, Field(pattern=_URI)]
"""A URI by RFC 3986, with its scheme; `data:` is one."""


@open_object
class CacheBreakpoint(TypedDict):
    """Where a cached prefix may end."""

    mode: Literal["explicit"]


@open_object
class TextPart(TypedDict):
    """Text."""

    type: Literal["text"]
    text: str
    prompt_cache_breakpoint: NotRequired[CacheBreakpoint]


@open_object
class ImageUrl(TypedDict):
    """Where an image is, or the image itself as a data URL."""

    url: Url
    detail: NotRequired[Literal["auto", "low", "high"]]


@open_object
class ImagePart(TypedDict):
    """An image."""

    type: Literal["image_url"]
    image_url: ImageUrl
    prompt_cache_breakpoint: NotRequired[CacheBreakpoint]


@open_object
class Audio(TypedDict):
    """Sound, in base64."""

    data: str
    format: Literal["wav", "mp3"]


@open_object
class AudioPart(TypedDict):
    """Sound."""

    type: Literal["input_audio"]
    input_audio: Audio
    prompt_cache_breakpoint: NotRequired[CacheBreakpoint]


@open_object
class File(TypedDict):
    """A file, by its id or its bytes."""

    filename: NotRequired[str]
    file_data: NotRequired[str]
    file_id: NotRequired[str]


@open_object
class FilePart(TypedDict):
    """A file."""

    type: Literal["file"]
    file: File
    prompt_cache_breakpoint: NotRequired[CacheBreakpoint]


@open_object
class RefusalPart(TypedDict):
    """What an assistant said when it refused."""

    type: Literal["refusal"]
    refusal: str


UserPart = Annotated[TextPart | ImagePart | AudioPart | FilePart, Field(discriminator="type")]
AssistantPart = Annotated[TextPart | RefusalPart, Field(discriminator="type")]
Text = str | Annotated[list[TextPart], MinLen(1)]


@open_object
class CalledFunction(TypedDict):
    """A function's name and its arguments, as JSON in a string."""

    name: str
    arguments: str


@open_object
class FunctionCall(TypedDict):
    """A call of a function."""

    id: str
    type: Literal["function"]
    function: CalledFunction


@open_object
class CalledCustomTool(TypedDict):
    """A custom tool's name and what it is given."""

    name: str
    input: str


@open_object
class CustomToolCall(TypedDict):
    """A call of a custom tool."""

    id: str
    type: Literal["custom"]
    custom: CalledCustomTool


ToolCall = Annotated[FunctionCall | CustomToolCall, Field(discriminator="type")]


@open_object
class AudioReference(TypedDict):
    """An earlier answer in sound."""

    id: str


@open_object
class DeveloperMessage(TypedDict):
    """What the developer says."""

    role: Literal["developer"]
    content: Text
    name: NotRequired[str]


@open_object
class SystemMessage(TypedDict):
    """What the system says."""

    role: Literal["system"]
    content: Text
    name: NotRequired[str]


@open_object
class UserMessage(TypedDict):
    """What the user says."""

    role: Literal["user"]
    content: str | Annotated[list[UserPart], MinLen(1)]
    name: NotRequired[str]


@open_object
class AssistantMessage(TypedDict):
    """What the model said before."""

    role: Literal["assistant"]
    content: NotRequired[str | Annotated[list[AssistantPart], MinLen(1)] | None]
    refusal: NotRequired[str | None]
    name: NotRequired[str]
    audio: NotRequired[AudioReference | None]
    tool_calls: NotRequired[list[ToolCall]]
    function_call: NotRequired[CalledFunction | None]


@open_object
class ToolMessage(TypedDict):
    """What a tool answered."""

    role: Literal["tool"]
    content: Text
    tool_call_id: str


@open_object
class FunctionMessage(TypedDict):
    """What a function answered, as it was done before tools."""

    role: Literal["function"]
    content: str | None
    name: str


Message = Annotated[
    DeveloperMessage | SystemMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage,
    Field(discriminator="role"),
]
