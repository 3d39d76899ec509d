"""Connections to upstreams: one exchange after the other over each, kept alive in between, straight from the socket.

An `Upstream` is one connection: bytes go in, what they mean goes to the `Listener` of the exchange under way, in as
many pieces as reads. It knows HTTP/1.1's framing and nothing of what is in a body. `Upstreams` are the idle ones by
origin, latest first, and the way to new ones.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, cast
from urllib.parse import urlsplit

import httptools

from reference.wire.asgi import Headers

CONNECT_TIMEOUT_SECONDS = 1.0
IDLE_SECONDS = 4.0
"""Shorter than the five seconds that uvicorn, and so vLLM, keeps an idle connection."""
MAX_HEAD_BYTES = 256 * 1024
"""An answer whose headers are longer is malformed."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an upstream listens, and the path before all of its paths."""

    host: str
    port: int
    prefix: str = ""
    is_tls: bool = False

    @classmethod
    def of(cls, url: str) -> Origin:
        """Read a base URL.

        Raises:
            ValueError: it is no http or https URL.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no address of a server; expected http://HOST:PORT or https://HOST:PORT")
        is_tls = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if is_tls else 80), parts.path.rstrip("/"), is_tls)

    def post(self, path: str, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
        """Return a POST request as it goes over the wire."""
        lines = [_request_line(self, path)]
        lines += [b"%s: %s\r\n" % pair for pair in headers]
        lines += [b"content-length: %d\r\n\r\n" % len(body), body]
        return b"".join(lines)


@lru_cache(maxsize=1024)
def _request_line(origin: Origin, path: str) -> bytes:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return f"POST {origin.prefix}{path} HTTP/1.1\r\nhost: {host}:{origin.port}\r\n".encode()


class Listener(Protocol):
    """Hears of one answer: `head`, `data` as it comes, `end` with the rest; or, at any point, `lost`; nothing after."""

    def head(self, status: int, headers: Headers) -> None:
        """The status and all headers, names in lower case."""

    def data(self, chunk: bytes) -> None:
        """The next bytes of the body; never empty."""

    def end(self, rest: bytes) -> None:
        """The answer is whole with these last bytes, if there are any."""

    def lost(self, reason: str) -> None:
        """The connection broke, or what came is not HTTP."""


class Upstream(asyncio.Protocol):
    """One connection. Life: made → (`ask` → answer)* → lost. It belongs to one exchange at a time."""

    def __init__(self, idle: dict[Upstream, float]) -> None:
        self._idle = idle
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._listener: Listener | None = None
        self._is_paused = False
        self._headers: Headers = []
        self._pieces: list[bytes] = []
        self._is_complete = False
        self._forget()

    def ask(self, request: bytes, listener: Listener) -> None:
        """Begin an exchange."""
        assert self._transport is not None
        self._listener = listener
        self._forget()
        self._transport.write(request)

    def abort(self) -> None:
        """Close at once, whatever is under way; the listener hears nothing more."""
        self._listener = None
        self._idle.pop(self, None)
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Read nothing more for now: whoever is to take it cannot."""
        if not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; asyncio and uvloop set TCP_NODELAY themselves."""
        # uvloop's transports are none of asyncio's classes
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Tell the listener what these bytes mean, in one piece."""
        if self._listener is None:
            # nobody asked: whatever this is, the next answer must not begin with it
            self.abort()
            return
        self.num_bytes += len(data)
        fault = ""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            fault = "it changed the protocol"
        except httptools.HttpParserError as error:
            fault = f"malformed answer: {error}"
        if self._has_told_head and not self._is_complete and not fault:
            # most reads are the next chunk of a stream
            body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces = []
            if body:
                self._listener.data(body)
            return
        self._deliver(fault)

    def connection_lost(self, error: Exception | None) -> None:
        """End what is under way: an answer without a length is whole now, any other is lost."""
        self._idle.pop(self, None)
        listener, self._listener = self._listener, None
        if listener is None:
            return
        if error is None and self._status and not self._has_length:
            listener.end(b"")
        else:
            listener.lost(str(error or "the connection was closed before the answer was complete"))

    # What the parser tells; it is acted upon when all bytes of a read have been parsed

    def on_message_begin(self) -> None:
        """A message begins; after a complete answer it is one that nobody asked for."""
        self._is_surplus = self._is_complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        if self._is_complete:
            return
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._has_length = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the status; 1xx announce the answer and are none."""
        status = self._parser.get_status_code()
        if not self._is_surplus and not 100 <= status < 200:
            self._status = status
            self._has_length = self._has_length or status in (204, 304)

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        if not self._is_complete:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Note the end of the answer, or forget what announced it."""
        if not self._status:
            self._headers = []
            self._has_length = False
        elif not self._is_surplus:
            self._is_complete = True
            self._can_keep = self._parser.should_keep_alive()

    def _forget(self) -> None:
        self.num_bytes = 0
        """Received in this exchange."""
        self._status = 0
        self._headers = []
        self._pieces = []
        self._has_told_head = self._has_length = False
        self._is_complete = False
        self._is_surplus = self._can_keep = False

    def _deliver(self, fault: str) -> None:
        listener = self._listener
        assert listener is not None
        if not self._status and self.num_bytes > MAX_HEAD_BYTES:
            fault = "malformed answer: its headers are too long"
        if self._status and not self._has_told_head:
            self._has_told_head = True
            listener.head(self._status, self._headers)
        body = b"".join(self._pieces)
        self._pieces = []
        if self._is_complete:
            self._release(can_keep=self._can_keep and not self._is_surplus and not fault)
            listener.end(body)
            return
        if body:
            listener.data(body)
        # a listener that cannot take it has aborted
        if fault and self._listener is not None:
            self.abort()
            listener.lost(fault)

    def _release(self, *, can_keep: bool) -> None:
        """Become idle, or close when the upstream, or what it sent, does not let the connection be used again."""
        assert self._transport is not None
        self._listener = None
        if can_keep and not self._transport.is_closing() and not self._transport.get_write_buffer_size():
            self.resume()
            self._idle[self] = time.monotonic()
        else:
            self._transport.close()


class Upstreams:
    """All connections of a server to its upstreams: those that are idle, and the way to new ones."""

    def __init__(self) -> None:
        self._idle: dict[Origin, dict[Upstream, float]] = {}
        self._origins: dict[str, Origin] = {}
        self._tls: ssl.SSLContext | None = None
        self._sweep: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Close those that are idle."""
        if self._sweep is not None:
            self._sweep.cancel()
        for idle in self._idle.values():
            for upstream in [*idle]:
                upstream.abort()

    def origin(self, url: str) -> Origin:
        """Return the origin of a base URL; read once."""
        found = self._origins.get(url)
        if found is None:
            found = self._origins[url] = Origin.of(url)
        return found

    @property
    def num_idle(self) -> int:
        """How many connections wait to be used again."""
        return sum(map(len, self._idle.values()))

    def idle(self, origin: Origin) -> Upstream | None:
        """Take the idle connection that was used last, None when there is none."""
        idle = self._idle.get(origin)
        return idle.popitem()[0] if idle else None

    async def connect(self, origin: Origin) -> Upstream:
        """Open a connection.

        Raises:
            OSError: there is none to be had; TimeoutError is one.
        """
        idle = self._idle.setdefault(origin, {})
        loop = asyncio.get_running_loop()
        if self._sweep is None:
            self._sweep = loop.call_later(IDLE_SECONDS / 4, self._close_old)
        if origin.is_tls and self._tls is None:
            self._tls = ssl.create_default_context()
        tls = self._tls if origin.is_tls else None
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            _, upstream = await loop.create_connection(lambda: Upstream(idle), origin.host, origin.port, ssl=tls)
        return upstream

    def _close_old(self) -> None:
        loop = asyncio.get_running_loop()
        for idle in self._idle.values():
            for upstream, since in [*idle.items()]:
                if time.monotonic() - since < IDLE_SECONDS:
                    break
                upstream.abort()
        self._sweep = loop.call_later(IDLE_SECONDS / 4, self._close_old)
