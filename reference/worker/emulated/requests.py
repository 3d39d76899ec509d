"""What the emulated engine makes of an OpenAI request: a sequence with so many words in and so many out."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import orjson

from reference.engine import Sequence
from reference.tokens import block_hashes, words_to_tokens
from reference.wire.errors import ApiError

DEFAULT_MAX_TOKENS = 256
"""When the client names none: an answer ends by itself somewhere below, at a length that depends on its prompt only."""

BEGIN_OF_TEXT = 1
"""The token that a prompt has before its words, and is all there is of an empty one."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A completion as the engine needs it."""

    sequence: Sequence
    is_stream: bool
    wants_usage: bool
    is_chat: bool
    max_tokens: int


def read_object(raw: bytes) -> dict[str, Any]:
    """Read a body as a JSON object.

    Raises:
        ApiError: 400, it is none.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"the body is not JSON: {error}", code="invalid_json") from error
    if not isinstance(body, dict):
        raise ApiError(400, f"the body is a JSON {type(body).__name__}; expected an object", code="invalid_json")
    return body


def read_ask(request_id: str, body: dict[str, Any], *, is_chat: bool, block_size: int) -> Ask:
    """Read a chat or text completion.

    Raises:
        ApiError: 400, with the parameter at fault.
    """
    text = chat_text(body) if is_chat else _prompt_text(body)
    tokens = words_to_tokens(text) or [BEGIN_OF_TEXT]
    bounds = Bounds.of(body)
    output = bounds.output_tokens(text)
    stream_options = body.get("stream_options") or {}
    sequence = Sequence(request_id, len(tokens), output, block_hashes(tokens, block_size), bounds.max_tokens)
    wants_usage = bool(stream_options.get("include_usage"))
    return Ask(sequence, bool(body.get("stream")), wants_usage, is_chat, bounds.max_tokens)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long an answer may be and has to be, in tokens."""

    max_tokens: int
    min_tokens: int
    ignore_eos: bool

    @classmethod
    def of(cls, body: dict[str, Any]) -> Bounds:
        """Read them. A bound below 1 is none, as clients mean it that send 0 or -1.

        Raises:
            ApiError: 400, a bound is not a whole number.
        """
        given = body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_MAX_TOKENS
        if isinstance(given, bool) or not isinstance(given, int | float) or given != int(given):
            raise ApiError(400, f"max_tokens is {given!r}; expected a whole number", param="max_tokens")
        max_tokens = int(given) if given >= 1 else DEFAULT_MAX_TOKENS
        return cls(max_tokens, int(body.get("min_tokens") or 0), bool(body.get("ignore_eos")))

    def output_tokens(self, text: str) -> int:
        """Return how long the answer to a prompt is."""
        if self.ignore_eos or self.min_tokens >= self.max_tokens:
            return self.max_tokens
        natural = 8 + zlib.crc32(text.encode("utf-8", "surrogatepass")) % 200
        return min(self.max_tokens, max(natural, self.min_tokens))


def read_texts(body: dict[str, Any]) -> list[list[int]]:
    """Read the texts of an embeddings request as tokens.

    Raises:
        ApiError: 400, there is none.
    """
    given = body.get("input")
    if isinstance(given, str):
        return [words_to_tokens(given)]
    if isinstance(given, list) and given:
        if all(isinstance(part, int | float) for part in given):
            return [[int(token) for token in given]]
        return [words_to_tokens(part) if isinstance(part, str) else [int(token) for token in part] for part in given]
    raise ApiError(400, f"input is {type(given).__name__}; expected text, texts or tokens", param="input")


def chat_text(body: dict[str, Any]) -> str:
    """Return the text of a chat's messages.

    Raises:
        ApiError: 400, there is none.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, f"messages is {type(messages).__name__}; expected a list with a message", param="messages")
    return " ".join(_content(message, place) for place, message in enumerate(messages))


def _content(message: Any, place: int) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if content is None and isinstance(message, dict):
        return ""
    raise ApiError(400, "content is neither text nor a list of parts", param=f"messages.{place}.content")


def _prompt_text(body: dict[str, Any]) -> str:
    prompt = body.get("prompt")
    if isinstance(prompt, str) or prompt is None:
        return prompt or ""
    if isinstance(prompt, list) and prompt:
        return " ".join(str(part) for part in prompt)
    raise ApiError(400, f"prompt is {type(prompt).__name__}; expected text", param="prompt")
