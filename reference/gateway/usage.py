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

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        """Keep the last bytes."""
        self._tail = (self._tail + chunk)[-_TAIL_BYTES:]

    @property
    def input_tokens(self) -> int | None:
        """Prompt tokens, None when the answer did not say."""
        found = _INPUT.findall(self._tail)
        return int(found[-1]) if found else None

    @property
    def output_tokens(self) -> int | None:
        """Completion tokens, None when the answer did not say."""
        found = _OUTPUT.findall(self._tail)
        return int(found[-1]) if found else None

    @property
    def total_tokens(self) -> int | None:
        """Both, None when the answer did not say."""
        if self.input_tokens is None:
            return None
        return self.input_tokens + (self.output_tokens or 0)


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
