"""Server-sent events of a streamed completion, read line by line as they come off the socket.

`Stream` is fed lines and told the time; it keeps when each chunk with text came and how much text it had, the usage, an
error, and whether the stream was closed as it should be. Refuses to know sockets.
"""

from __future__ import annotations

from typing import Any

import orjson

FEW_WORDS = 60
"""Messages longer than this differ from request to request and cannot be counted; the code stands for them."""


class Stream:
    """What one streamed answer has told so far. Fed until `is_done`, or until the connection ends."""

    __slots__ = ("_data", "chunk_sizes", "chunk_times", "error", "is_done", "usage")

    def __init__(self) -> None:
        self.chunk_times: list[float] = []
        """When each chunk with text came."""
        self.chunk_sizes: list[int] = []
        """Characters of text in each."""
        self.usage: tuple[int, int, int] | None = None
        """Input, output and cached tokens, as the server counts them."""
        self.error = ""
        self.is_done = False
        """`[DONE]` came: the only sign that nothing is missing."""
        self._data: list[bytes] = []

    def feed(self, line: bytes, now: float) -> None:
        """Take one line, its end included. A blank line completes an event."""
        if line.startswith(b"data:"):
            self._data.append(line[5:].strip())
        elif self._data and not line.strip():
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            self._data = []
            self._event(data, now)

    def _event(self, data: bytes, now: float) -> None:
        if data == b"[DONE]":
            self.is_done = True
            return
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            self.error = self.error or "malformed event"
            return
        if not isinstance(event, dict):
            self.error = self.error or "malformed event"
            return
        if event.get("error"):
            self.error = self.error or reason_of(event)
            return
        if size := _text_size(event):
            self.chunk_times.append(now)
            self.chunk_sizes.append(size)
        if usage := event.get("usage"):
            self.usage = _usage(usage)


def reason_of(body: Any) -> str:
    """Return what an error says if that is short, else its code or type; in any shape that servers use."""
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, str):
        return error[:200]
    if not isinstance(error, dict):
        return ""
    message = str(error.get("message") or "")
    if 0 < len(message) <= FEW_WORDS:
        return message
    # vLLM's codes are the HTTP status again, which says nothing
    words = (error.get(name) for name in ("code", "type"))
    return next((word for word in words if isinstance(word, str) and word), message[:200])


def _text_size(event: dict[str, Any]) -> int:
    """Count the characters that an event adds: content, reasoning, tool calls, or the text of a plain completion."""
    size = 0
    for choice in event.get("choices") or ():
        delta = choice.get("delta")
        if delta is None:
            size += len(choice.get("text") or "")
            continue
        size += len(delta.get("content") or "")
        size += len(delta.get("reasoning_content") or delta.get("reasoning") or "")
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            size += len(function.get("name") or "") + len(function.get("arguments") or "")
    return size


def _usage(usage: dict[str, Any]) -> tuple[int, int, int]:
    details = usage.get("prompt_tokens_details") or {}
    return (
        int(usage.get("prompt_tokens") or 0),
        int(usage.get("completion_tokens") or 0),
        int(details.get("cached_tokens") or 0),
    )
