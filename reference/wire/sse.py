"""Server-sent events as OpenAI's API frames them, and a watcher that sees how a stream ends without parsing it."""

from __future__ import annotations

from typing import Any

import orjson

from reference.wire.errors import error_object

DONE = b"data: [DONE]\n\n"


def event(payload: dict[str, Any]) -> bytes:
    """Frame one event."""
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def error_event(message: str, code: str) -> bytes:
    """Frame the event that ends a stream which cannot be finished; no finish_reason is made up, no [DONE] follows."""
    return event(error_object(502, message, code=code))


class StreamEnd:
    """Watches the bytes of a stream for its end: `[DONE]` was seen, or an error event.

    Keeps the last bytes only, because an event may be split anywhere.
    """

    __slots__ = ("_tail", "is_done", "is_error")

    def __init__(self) -> None:
        self._tail = b""
        self.is_done = False
        self.is_error = False

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes."""
        text = self._tail + chunk if self._tail else chunk
        if b"[DONE]" in text[-64:]:
            self.is_done = self.is_done or b"data: [DONE]" in text or b"data:[DONE]" in text
        if b'data: {"error"' in text or b'data:{"error"' in text:
            self.is_error = True
        self._tail = text[-32:]
