"""Answers in OpenAI's shapes, from the tokens that the engine hands out."""

from __future__ import annotations

from base64 import b64encode
from math import sqrt
from struct import pack
from typing import Any

import orjson

from reference.wire.sse import event

WORDS = ("air", "flow", "lift", "drag", "wing", "tail", "gust", "calm", "turn", "climb", "glide", "land")

EMBEDDING_SIZE = 64


def word(position: int) -> str:
    """Return the answer's word at a position, from 0."""
    return ("" if position == 0 else " ") + WORDS[position % len(WORDS)]


class Frames:
    """The frames of one stream: what is the same in all of them is encoded once."""

    def __init__(self, request_id: str, model: str, created: int, *, is_chat: bool) -> None:
        kind = "chat.completion.chunk" if is_chat else "text_completion"
        self._head = {"id": request_id, "object": kind, "created": created, "model": model}
        self._is_chat = is_chat
        marker = "@@"
        choice = self._choice(marker, None)
        before, after = event({**self._head, "choices": [choice]}).split(marker.encode())
        self._before, self._after = before, after

    def first(self) -> bytes:
        """Return the frame that opens a chat answer; it holds no token."""
        if not self._is_chat:
            return b""
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        return event({**self._head, "choices": [choice]})

    def token(self, position: int) -> bytes:
        """Return the frame of one token."""
        return self._before + word(position).encode() + self._after

    def last(self, reason: str) -> bytes:
        """Return the frame that says why the answer ends."""
        return event({**self._head, "choices": [self._choice("", reason)]})

    def usage(self, usage: dict[str, Any]) -> bytes:
        """Return the frame with the usage, which has no choices."""
        return event({**self._head, "choices": [], "usage": usage})

    def _choice(self, text: str, reason: str | None) -> dict[str, Any]:
        if self._is_chat:
            delta = {"content": text} if reason is None else {}
            return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}


def usage_of(input_tokens: int, output_tokens: int, cached_tokens: int) -> dict[str, Any]:
    """Return OpenAI's usage object."""
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }


def embedding(tokens: list[int]) -> list[float]:
    """Return a text's vector: of length 1, the same each time, and nearer the more words two texts share."""
    vector = [0.0] * EMBEDDING_SIZE
    for token in tokens:
        vector[token % EMBEDDING_SIZE] += 1.0 if token & 1 << 40 else -1.0
    length = sqrt(sum(part * part for part in vector)) or 1.0
    return [part / length for part in vector]


def embeddings_answer(
    model: str, vectors: list[list[float]], num_tokens: int, *, as_base64: bool, dimensions: int = EMBEDDING_SIZE
) -> bytes:
    """Return OpenAI's list of embeddings, as numbers or as the bytes of floats that its client asks for.

    `dimensions` keeps the first so many of each vector; more than it has are all it has.
    """
    kept = [vector[:dimensions] for vector in vectors]
    data = [
        {"object": "embedding", "index": place, "embedding": _packed(vector) if as_base64 else vector}
        for place, vector in enumerate(kept)
    ]
    usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    return orjson.dumps({"object": "list", "model": model, "data": data, "usage": usage})


def _packed(vector: list[float]) -> str:
    return b64encode(pack(f"<{len(vector)}f", *vector)).decode()


def whole_answer(
    request_id: str, model: str, created: int, *, is_chat: bool, output_tokens: int, reason: str, usage: dict[str, Any]
) -> bytes:
    """Return an answer that is not streamed."""
    text = "".join(word(position) for position in range(output_tokens))
    if is_chat:
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    else:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
    kind = "chat.completion" if is_chat else "text_completion"
    head = {"id": request_id, "object": kind, "created": created, "model": model}
    return orjson.dumps({**head, "choices": [choice], "usage": usage})
