"""The byte relay: one request to an upstream and its answer back, unchanged and unbuffered.

Bytes pass through as they come; nothing is parsed. The upstream connection is dropped when the relay is cancelled, so
a client that leaves frees its batch slot.
"""

from __future__ import annotations

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
    ]
)
"""Not passed back: they belong to one connection."""

CONNECT_TIMEOUT_SECONDS = 2.0


class Ending(Enum):
    """How a relayed answer ended, as the upstream's behaviour shows it."""

    COMPLETE = "complete"
    ERROR_STATUS = "error status"
    """The upstream answered 4xx or 5xx; nothing has been sent to the client."""
    UNREACHABLE = "unreachable"
    """No connection, or it broke before the answer began; nothing has been sent to the client."""
    BROKEN = "broken"
    """It broke after the answer had begun; a stream was ended with an error event."""


@dataclass(slots=True)
class Relayed:
    """What came of a relay. `body` and `headers` hold an error answer that was kept back."""

    ending: Ending
    status: int = 0
    body: bytes = b""
    headers: Headers = field(default_factory=list)
    num_bytes: int = 0
    detail: str = ""


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
) -> Relayed:
    """Post a body upstream and pass the answer to the client; errors before its first byte are returned, not sent.

    `extra_headers` go to the client with the answer. `watch` sees every chunk as it passes.
    """
    try:
        async with session.post(url, data=body, headers=headers) as response:
            if response.status >= 400:
                raw = await response.read()
                return Relayed(
                    Ending.ERROR_STATUS,
                    response.status,
                    normalised(response.status, raw),
                    _passed_on(response.raw_headers),
                )
            return await _pass_back(response, send, extra_headers, on_first_byte, watch)
    except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
        return Relayed(Ending.UNREACHABLE, detail=f"{type(error).__name__}: {error}")


async def _pass_back(
    response: aiohttp.ClientResponse,
    send: Send,
    extra_headers: Headers,
    on_first_byte: Callable[[], None],
    watch: Callable[[bytes], None] | None,
) -> Relayed:
    is_stream = response.content_type == "text/event-stream"
    begun, num_bytes, end = False, 0, StreamEnd()

    async def begin() -> None:
        headers = [*_passed_on(response.raw_headers), *extra_headers]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})

    try:
        async for chunk in response.content.iter_any():
            if not begun:
                begun = True
                on_first_byte()
                await begin()
            num_bytes += len(chunk)
            if is_stream:
                end.feed(chunk)
            if watch is not None:
                watch(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
        if not begun:
            return Relayed(Ending.UNREACHABLE, detail=f"{type(error).__name__}: {error}")
        return await _broken(send, is_stream, num_bytes, "the model server was lost before the answer was complete")
    if is_stream and end.is_error:
        await send({"type": "http.response.body", "body": b""})
        return Relayed(Ending.BROKEN, response.status, num_bytes=num_bytes, detail="the model server reported an error")
    if is_stream and not end.is_done:
        if not begun:
            return Relayed(Ending.UNREACHABLE, detail="the stream ended before it began")
        return await _broken(
            send, is_stream, num_bytes, "the model server ended the stream before the answer was complete"
        )
    if not begun:
        await begin()
    await send({"type": "http.response.body", "body": b""})
    return Relayed(Ending.COMPLETE, response.status, num_bytes=num_bytes)


async def _broken(send: Send, is_stream: bool, num_bytes: int, message: str) -> Relayed:
    """End an answer that cannot be completed: a stream by a typed event, anything else by cutting the connection."""
    if is_stream:
        await send({"type": "http.response.body", "body": b"\n\n" + error_event(message, "upstream_lost")})
        return Relayed(Ending.BROKEN, num_bytes=num_bytes, detail=message)
    raise ConnectionResetError(message)


def _passed_on(raw_headers: Any) -> Headers:
    return [(name.lower(), value) for name, value in raw_headers if name.lower() not in HOP_BY_HOP]
