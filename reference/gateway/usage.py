"""How many tokens a request used: estimated before, read from the answer's usage after, without decoding it."""

from __future__ import annotations

import re
from typing import Any

_INPUT = re.compile(rb'"prompt_tokens":\s*(\d+)')
_OUTPUT = re.compile(rb'"completion_tokens":\s*(\d+)')
_TAIL_BYTES = 2048
"""A usage object, and what an engine may put around it, is shorter than this."""

DEFAULT_OUTPUT_TOKENS = 256


class UsageWatch:
    """Sees an answer's bytes pass and keeps its end, where the usage is."""

    __slots__ = ("_num_bytes", "_parts", "_read")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._num_bytes = 0
        self._read: tuple[int | None, int | None] | None = None

    def feed(self, chunk: bytes) -> None:
        """Keep the last bytes, and some more so as not to cut each time."""
        self._parts.append(chunk)
        self._num_bytes += len(chunk)
        self._read = None
        if self._num_bytes > 4 * _TAIL_BYTES:
            self._tail()

    def tokens(self) -> tuple[int | None, int | None]:
        """Return prompt and completion tokens, None for what the answer did not say."""
        if self._read is None:
            tail = self._tail()
            self._read = _last(tail, _INPUT, b'"prompt_tokens"'), _last(tail, _OUTPUT, b'"completion_tokens"')
        return self._read

    def _tail(self) -> bytes:
        tail = b"".join(self._parts)[-_TAIL_BYTES:]
        self._parts = [tail]
        self._num_bytes = len(tail)
        return tail


def _last(tail: bytes, pattern: re.Pattern[bytes], name: bytes) -> int | None:
    found = pattern.match(tail, max(0, tail.rfind(name)))
    return int(found[1]) if found else None


def estimate_tokens(path: str, body: dict[str, Any]) -> int:
    """Estimate the tokens that a valid request may use at most: four bytes a token, and the answers it allows."""
    if path.endswith("/chat/completions"):
        size = sum(len(str(message.get("content", ""))) for message in body["messages"])
        allowed = body.get("max_completion_tokens") or body.get("max_tokens")
    elif path.endswith("/completions"):
        size, allowed = len(str(body["prompt"])), body.get("max_tokens")
    else:
        return len(str(body["input"])) // 4 + 1
    # a bound below 1 is none
    answer = int(allowed) if allowed and allowed >= 1 else DEFAULT_OUTPUT_TOKENS
    return size // 4 + 1 + answer * int(body.get("n") or 1)
