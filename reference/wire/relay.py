"""The byte relay: one request to an upstream and its answer back, unchanged and unbuffered.

Bytes of a stream pass through as they come; nothing is parsed. An answer that is no stream is passed on whole, so that
one that breaks off can still be asked for elsewhere. The upstream connection is dropped when the relay is cancelled,
so a client that leaves frees its batch slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import aiohttp

from reference.wire.asgi import Headers, Send
from reference.wire.errors import normalised
from reference.wire.sse import StreamEnd, error_event

HOP_BY_HOP = frozenset(
    [
        b"connection",
        b"keep-alive",
        b"transfer-encoding",
        b"content-length",
        b"content-encoding",
        b"date",
        b"server",
        b"te",
        b"trailer",
        b"upgrade",
        b"proxy-authenticate",
        b"traceparent",
    ]
)
"""Not passed back: they belong to one connection, or to the hop behind."""

CONNECT_TIMEOUT_SECONDS = 1.0
LOST = (TimeoutError, aiohttp.ClientError, ConnectionError)
"""What aiohttp raises when an upstream is not there, or no longer."""


class Ending(Enum):
    """How a relayed answer ended, as the upstream's behaviour shows it."""

    COMPLETE = "complete"
    ERROR_STATUS = "error status"
    """The upstream answered 4xx or 5xx; nothing has been sent to the client."""
    UNREACHABLE = "unreachable"
    """No connection, or it broke before the answer began; nothing has been sent to the client."""
    BROKEN = "broken"
    """It broke after the answer had begun; the stream was ended with an error event."""


@dataclass(slots=True)
class Relayed:
    """What came of a relay. `body` and `headers` hold an error answer that was kept back."""

    ending: Ending
    status: int = 0
    body: bytes = b""
    headers: Headers = field(default_factory=list)
    detail: str = ""
    is_refused: bool = False
    """Nobody listens there: the connection was refused."""


class Exchange:
    """One relay under way, as others see it: how much has come, and a way to end it when the upstream is given up."""

    __slots__ = ("_task", "is_abandoned", "num_bytes")

    def __init__(self) -> None:
        self.num_bytes = 0
        self.is_abandoned = False
        self._task = asyncio.current_task()

    def abandon(self) -> None:
        """Give the upstream up: the relay ends as if its connection had been lost."""
        self.is_abandoned = True
        if self._task is not None:
            self._task.cancel()

    def absorbs_cancellation(self) -> bool:
        """Say whether it was `abandon`, and it alone, that cancelled the task."""
        return self.is_abandoned and self._task is not None and self._task.uncancel() == 0


def session_for_relaying() -> aiohttp.ClientSession:
    """Make the client session of a server: no limit on connections, no cookies, no decompression, no total timeout."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30, ttl_dns_cache=10)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_SECONDS)
    return aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
    )


async def relay(
    session: aiohttp.ClientSession,
    url: str,
    body: bytes,
    headers: dict[str, str],
    send: Send,
    *,
    extra_headers: Headers,
    on_first_byte: Callable[[], None] = lambda: None,
    watch: Callable[[bytes], None] | None = None,
    exchange: Exchange | None = None,
) -> Relayed:
    """Post a body upstream and pass the answer to the client; errors before its first byte are returned, not sent.

    `extra_headers` go to the client with the answer. `watch` sees every chunk as it passes.
    """
    exchange = exchange or Exchange()
    try:
        async with session.post(url, data=body, headers=headers) as response:
            if response.status < 400 and response.content_type == "text/event-stream":
                stream = _Stream(response, send, exchange, watch)
                return await stream.pass_back(extra_headers, on_first_byte)
            raw = await response.read()
            passed_on = _passed_on(response.raw_headers)
            if response.status >= 400:
                return Relayed(Ending.ERROR_STATUS, response.status, normalised(response.status, raw), passed_on)
    except LOST as error:
        is_refused = isinstance(error, aiohttp.ClientConnectorError) and isinstance(
            error.os_error, ConnectionRefusedError
        )
        return Relayed(Ending.UNREACHABLE, detail=f"{type(error).__name__}: {error}", is_refused=is_refused)
    except asyncio.CancelledError:
        if exchange.absorbs_cancellation():
            return Relayed(Ending.UNREACHABLE, detail="given up: it answers no health check")
        raise
    on_first_byte()
    if watch is not None:
        watch(raw)
    length = (b"content-length", b"%d" % len(raw))
    start = {
        "type": "http.response.start",
        "status": response.status,
        "headers": [*passed_on, *extra_headers, length],
    }
    await send(start)
    await send({"type": "http.response.body", "body": raw})
    return Relayed(Ending.COMPLETE, response.status)


class _Stream:
    """An event stream on its way back."""

    __slots__ = ("_end", "_exchange", "_has_begun", "_response", "_send", "_watch")

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        send: Send,
        exchange: Exchange,
        watch: Callable[[bytes], None] | None,
    ) -> None:
        self._response = response
        self._send = send
        self._exchange = exchange
        self._watch = watch
        self._end = StreamEnd()
        self._has_begun = False

    async def pass_back(self, extra_headers: Headers, on_first_byte: Callable[[], None]) -> Relayed:
        """Pass everything on; end with an error event what cannot be completed."""
        try:
            await self._pass_chunks(extra_headers, on_first_byte)
        except LOST as error:
            return await self._lost(f"{type(error).__name__}: {error}")
        except asyncio.CancelledError:
            if self._exchange.absorbs_cancellation():
                return await self._lost("given up: it answers no health check")
            raise
        if self._end.is_error:
            await self._send({"type": "http.response.body", "body": b""})
            return Relayed(Ending.BROKEN, self._response.status, detail="the model server reported an error")
        if not self._end.is_done:
            return await self._lost("the stream ended before the answer was complete")
        await self._send({"type": "http.response.body", "body": b""})
        return Relayed(Ending.COMPLETE, self._response.status)

    async def _pass_chunks(self, extra_headers: Headers, on_first_byte: Callable[[], None]) -> None:
        send, feed, watch, exchange = self._send, self._end.feed, self._watch, self._exchange
        async for chunk in self._response.content.iter_any():
            if not self._has_begun:
                self._has_begun = True
                on_first_byte()
                headers = [*_passed_on(self._response.raw_headers), *extra_headers]
                await send({"type": "http.response.start", "status": self._response.status, "headers": headers})
            exchange.num_bytes += len(chunk)
            feed(chunk)
            if watch is not None:
                watch(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _lost(self, detail: str) -> Relayed:
        """End a stream that cannot be completed; one that has not begun can be asked for elsewhere."""
        if not self._has_begun:
            return Relayed(Ending.UNREACHABLE, detail=detail)
        if self._end.is_done:
            await self._send({"type": "http.response.body", "body": b""})
            return Relayed(Ending.COMPLETE, self._response.status)
        told = error_event("the model server was lost before the answer was complete", "upstream_lost")
        await self._send({"type": "http.response.body", "body": b"\n\n" + told})
        return Relayed(Ending.BROKEN, self._response.status, detail=detail)


def _passed_on(raw_headers: Any) -> Headers:
    return [(name.lower(), value) for name, value in raw_headers if name.lower() not in HOP_BY_HOP]
