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


_LONGEST_MARK = len(b'\ndata: {"error"')


class StreamEnd:
    """Watches the bytes of a stream for its end: `[DONE]` was seen, or an error event.

    Marks count at the start of a line only, where no text of a model can stand: inside JSON a newline is escaped. Keeps
    the last bytes, because an event may be split anywhere.
    """

    __slots__ = ("_tail", "is_done", "is_error")

    def __init__(self) -> None:
        self._tail = b"\n"
        self.is_done = False
        self.is_error = False

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes."""
        if self._tail == b"\n" and chunk.endswith(b"\n") and b"[DONE]" not in chunk and b'{"error"' not in chunk:
            # whole lines without a mark in them, as almost all are
            return
        text = self._tail + chunk
        if b"[DONE]" in text and (b"\ndata: [DONE]" in text or b"\ndata:[DONE]" in text):
            self.is_done = True
        if b'{"error"' in text and (b'\ndata: {"error"' in text or b'\ndata:{"error"' in text):
            self.is_error = True
        # a mark begins at a newline, and has no other
        self._tail = text[max(0, text.rfind(b"\n")) :][-_LONGEST_MARK:]
