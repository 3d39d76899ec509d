"""The byte relay: one request to an upstream and its answer back, unchanged and unbuffered.

`relay` is the one seam that gateway and router share. Bytes of a stream pass from socket to socket as they come;
nothing is parsed. An answer that is no stream is passed on whole, so that one that breaks off can still be asked for
elsewhere. The upstream connection is dropped when the relay is cancelled, so a client that leaves frees its batch slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

import aiohttp

from reference.wire.asgi import Headers
from reference.wire.errors import normalised
from reference.wire.http_client import CONNECT_TIMEOUT_SECONDS, Upstream, Upstreams
from reference.wire.http_server import Call
from reference.wire.sse import StreamEnd, error_event

HOP_BY_HOP = frozenset(
    [
        b"connection",
        b"keep-alive",
        b"transfer-encoding",
        b"content-length",
        b"date",
        b"server",
        b"te",
        b"trailer",
        b"upgrade",
        b"proxy-authenticate",
        b"proxy-connection",
        b"traceparent",
        b"x-request-id",
    ]
)
"""Not passed back: they belong to one connection, or each hop says them itself."""

MAX_WHOLE_BYTES = 256 * 2**20
"""An answer that is no stream may be so large: it is kept until it is whole."""


class Ending(Enum):
    """How a relayed answer ended, as the upstream's behaviour shows it."""

    COMPLETE = "complete"
    ERROR_STATUS = "error status"
    """The upstream answered 4xx or 5xx; nothing has been sent to the client."""
    UNREACHABLE = "unreachable"
    """No connection, or it broke before the answer began; nothing has been sent to the client."""
    BROKEN = "broken"
    """It broke after the answer had begun; the stream was ended with an error event."""


class Relayed(NamedTuple):
    """What came of a relay. `body` and `headers` hold an error answer that was kept back."""

    ending: Ending
    status: int = 0
    body: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()
    detail: str = ""
    is_refused: bool = False
    """Nobody listens there: the connection was refused."""


class Exchange:
    """One relay under way, as others see it: how much has come, and a way to end it when the upstream is given up."""

    __slots__ = ("is_abandoned", "num_bytes", "on_abandon")

    def __init__(self) -> None:
        self.num_bytes = 0
        self.is_abandoned = False
        self.on_abandon: Callable[[], None] | None = None

    def abandon(self) -> None:
        """Give the upstream up: the relay ends as if its connection had been lost."""
        self.is_abandoned = True
        if self.on_abandon is not None:
            self.on_abandon()


def session_for_relaying() -> aiohttp.ClientSession:
    """Make the client session of a server for all but its hot routes: no limit on connections, no cookies."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30, ttl_dns_cache=10)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_SECONDS)
    return aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
    )


async def relay(
    upstreams: Upstreams,
    url: str,
    body: bytes,
    headers: Headers,
    call: Call,
    *,
    extra_headers: Headers,
    on_first_byte: Callable[[], None] = lambda: None,
    watch: Callable[[bytes], None] | None = None,
    exchange: Exchange | None = None,
) -> Relayed:
    """Post a body to the call's path at `url` and pass the answer to the client.

    Errors before its first byte are returned, not sent. `extra_headers` go to the client with the answer. `watch` sees
    every piece of a body as it passes. An idle connection that turns out to be closed is replaced by a fresh one.
    """
    origin = upstreams.origin(url)
    request = origin.post(call.path, headers, body)
    answer = _Answer(call, exchange or Exchange(), extra_headers, on_first_byte, watch)
    upstream = upstreams.idle(origin)
    if upstream is not None:
        relayed = await answer.of(upstream, request)
        if relayed.ending is not Ending.UNREACHABLE or upstream.num_bytes or answer.exchange.is_abandoned:
            return relayed
    try:
        upstream = await upstreams.connect(origin)
    except OSError as error:
        is_refused = isinstance(error, ConnectionRefusedError)
        return Relayed(Ending.UNREACHABLE, detail=f"{type(error).__name__}: {error}", is_refused=is_refused)
    return await answer.of(upstream, request)


class _Answer:
    """The listener that passes one answer on to the client. What came of it is the future that `of` awaits."""

    __slots__ = (
        "_call",
        "_end",
        "_ended",
        "_extra_headers",
        "_has_begun",
        "_headers",
        "_is_stream",
        "_on_first_byte",
        "_parts",
        "_status",
        "_upstream",
        "_watch",
        "exchange",
    )

    def __init__(
        self,
        call: Call,
        exchange: Exchange,
        extra_headers: Headers,
        on_first_byte: Callable[[], None],
        watch: Callable[[bytes], None] | None,
    ) -> None:
        self.exchange = exchange
        self._call = call
        self._extra_headers = extra_headers
        self._on_first_byte = on_first_byte
        self._watch = watch
        self._end = StreamEnd()
        self._has_begun = self._is_stream = False
        self._status = 0
        self._headers: Headers = []
        self._parts: list[bytes] = []

    async def of(self, upstream: Upstream, request: bytes) -> Relayed:
        """Ask, and see the answer through; on cancellation the connection is dropped."""
        self._upstream = upstream
        self._ended: asyncio.Future[Relayed] = self._call.loop.create_future()
        self.exchange.on_abandon = self._give_up
        if self.exchange.is_abandoned:
            self._give_up()
            return await self._ended
        upstream.ask(request, self)
        try:
            return await self._ended
        except asyncio.CancelledError:
            upstream.abort()
            raise
        finally:
            self.exchange.on_abandon = None
            self._call.unfollow()

    # What the upstream's connection tells

    def head(self, status: int, headers: Headers) -> None:
        """Take the head; a stream of events is passed on from its first byte, all else when it is whole."""
        self._status = status
        self._headers = _passed_on(headers)
        self._is_stream = status < 400 and _is_event_stream(headers)
        if self._is_stream:
            self._call.follow(self._upstream)

    def data(self, chunk: bytes) -> None:
        """Pass the next bytes on."""
        self.exchange.num_bytes += len(chunk)
        if not self._is_stream:
            self._parts.append(chunk)
            if self.exchange.num_bytes > MAX_WHOLE_BYTES:
                self._upstream.abort()
                self.lost(f"its answer is larger than {MAX_WHOLE_BYTES:,} bytes")
            return
        self._see(chunk)
        self._call.write(chunk)

    def end(self, rest: bytes) -> None:
        """Close a whole answer; a stream without its end is none."""
        if not self._is_stream:
            self._parts.append(rest)
            self._pass_whole(b"".join(self._parts))
            return
        if rest:
            self._see(rest)
        if self._end.is_error:
            self._close(Ending.BROKEN, "the model server reported an error", rest)
        elif self._end.is_done:
            self._close(Ending.COMPLETE, last=rest)
        else:
            if rest:
                self._call.write(rest)
            self.lost("the stream ended before the answer was complete")

    def lost(self, reason: str) -> None:
        """End a stream that cannot be completed; an answer that has not begun can be asked for elsewhere."""
        if not self._has_begun:
            self._tell(Relayed(Ending.UNREACHABLE, detail=reason))
        elif self._end.is_done:
            self._close(Ending.COMPLETE)
        else:
            told = error_event("the model server was lost before the answer was complete", "upstream_lost")
            self._close(Ending.BROKEN, reason, b"\n\n" + told)

    def _see(self, chunk: bytes) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._on_first_byte()
            self._call.begin(self._status, self._headers + self._extra_headers)
        self._end.feed(chunk)
        if self._watch is not None:
            self._watch(chunk)

    def _pass_whole(self, body: bytes) -> None:
        if self._status >= 400:
            told = normalised(self._status, body)
            self._tell(Relayed(Ending.ERROR_STATUS, self._status, told, self._headers))
            return
        self._on_first_byte()
        if self._watch is not None:
            self._watch(body)
        self._call.respond(self._status, body, self._headers + self._extra_headers)
        self._tell(Relayed(Ending.COMPLETE, self._status))

    def _close(self, ending: Ending, detail: str = "", last: bytes = b"") -> None:
        self._call.end(last)
        self._tell(Relayed(ending, self._status, detail=detail))

    def _give_up(self) -> None:
        self._upstream.abort()
        self.lost("given up: it answers no health check")

    def _tell(self, relayed: Relayed) -> None:
        if not self._ended.done():
            self._ended.set_result(relayed)


def _is_event_stream(headers: Headers) -> bool:
    return any(name == b"content-type" and value.lower().startswith(b"text/event-stream") for name, value in headers)


def _passed_on(headers: Headers) -> Headers:
    """Leave out what belongs to the connection, and what it says belongs to it."""
    kept = [pair for pair in headers if pair[0] not in HOP_BY_HOP]
    for name, value in headers:
        if name == b"connection" and value.lower() not in (b"close", b"keep-alive"):
            named = {token.strip() for token in value.lower().split(b",")}
            kept = [pair for pair in kept if pair[0] not in named]
    return kept
