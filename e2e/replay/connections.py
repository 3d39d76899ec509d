"""Connections of the sender: kept alive, without Nagle's delay, the name resolved once. Runs inside the pilot only.

geventhttpclient's own pool asks `select` before every request, which ends at 1,024 descriptors, and gevent's sockets
try before they wait and set a timer for every wait: more work than the rest of a chunk. A `Wire` waits, then reads.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections import deque
from typing import Any

import gevent
import gevent.monkey
import gevent.socket
import gevent.ssl

from e2e.replay.address import Address

MAX_IDLE_SECONDS = 2.0
"""A connection idle for longer is not used again: uvicorn closes after 5 s, and a request sent into that is lost."""

_READ, _WRITE = 1, 2
_plain_socket = gevent.monkey.get_original("socket", "socket")


class Wire:
    """A connection, as a response reads it. `heard_at` is when bytes last came, or when it was taken into use."""

    __slots__ = ("_readable", "_sock", "_wait", "heard_at")

    def __init__(self, sock: Any) -> None:
        hub = gevent.get_hub()
        self._sock = _plain_socket(fileno=sock.detach())
        self._sock.setblocking(False)
        self._readable = hub.loop.io(self._sock.fileno(), _READ)
        self._wait = hub.wait
        self.heard_at = time.monotonic()

    def recv(self, size: int) -> bytes:
        """Wait for bytes and return them; nothing when the other side has closed."""
        while True:
            self._wait(self._readable)
            try:
                data: bytes = self._sock.recv(size)
            except BlockingIOError:
                continue
            self.heard_at = time.monotonic()
            return data

    def sendall(self, data: bytes) -> None:
        """Send everything."""
        rest = memoryview(data)
        while True:
            try:
                rest = rest[self._sock.send(rest) :]
            except BlockingIOError:
                gevent.socket.wait_write(self._sock.fileno())
            if not rest:
                return

    def is_quiet(self) -> bool:
        """Say whether it is open and idle: one that has something to read was closed, or is out of step."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Close it."""
        self._readable.stop()
        self._readable.close()
        self._sock.close()


class TlsWire:
    """As `Wire`, encrypted: what was decrypted ahead makes waiting first impossible, so gevent's own socket does it."""

    __slots__ = ("_sock", "heard_at")

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._sock.settimeout(None)
        self.heard_at = time.monotonic()

    def recv(self, size: int) -> bytes:
        """As `Wire.recv`."""
        data: bytes = self._sock.recv(size)
        self.heard_at = time.monotonic()
        return data

    def sendall(self, data: bytes) -> None:
        """As `Wire.sendall`."""
        self._sock.sendall(data)

    def is_quiet(self) -> bool:
        """As `Wire.is_quiet`, as far as can be known."""
        return True

    def close(self) -> None:
        """Close it."""
        self._sock.close()


class Connections:
    """A pool that grows as needed. `get_socket` hands a wire out; its response returns it, or releases it spoilt."""

    def __init__(
        self, address: Address, *, connect_seconds: float, verify_tls: bool, authority: str = "", connect_to: str = ""
    ) -> None:
        self._address = address
        self._connect_seconds = connect_seconds
        self._idle: deque[tuple[float, Wire | TlsWire]] = deque()
        self._resolved = gevent.socket.getaddrinfo(connect_to or address.host, address.port, 0, socket.SOCK_STREAM)
        self._tls = _tls_context(verify_tls, authority) if address.is_tls else None

    def get_socket(self) -> Wire | TlsWire:
        """Return a connection, the one used last if it is still good, else a new one.

        Raises:
            OSError: none could be made.
        """
        now = time.monotonic()
        while self._idle:
            since, wire = self._idle.pop()
            if now - since <= MAX_IDLE_SECONDS and wire.is_quiet():
                wire.heard_at = now
                return wire
            wire.close()
        return self._connect()

    def return_socket(self, wire: Wire | TlsWire) -> None:
        """Take a connection back whose answer has been read to its end."""
        self._idle.append((time.monotonic(), wire))

    def release_socket(self, wire: Wire | TlsWire) -> None:
        """Close a connection that cannot be used again."""
        wire.close()

    def _connect(self) -> Wire | TlsWire:
        failure: OSError | None = None
        for family, kind, protocol, _, where in self._resolved:
            sock = gevent.socket.socket(family, kind, protocol)
            try:
                sock.settimeout(self._connect_seconds)
                sock.connect(where)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls is None:
                    return Wire(sock)
                return TlsWire(self._tls.wrap_socket(sock, server_hostname=self._address.host))
            except OSError as error:
                sock.close()
                failure = failure or error
            except BaseException:
                sock.close()
                raise
        raise failure or OSError(f"{self._address.host} has no address")


def _tls_context(verify: bool, authority: str) -> Any:
    # create_default_context would make the standard library's, whose sockets block the whole loop
    context = gevent.ssl.SSLContext(gevent.ssl.PROTOCOL_TLS_CLIENT)
    if authority:
        context.load_verify_locations(authority)
    else:
        context.load_default_certs()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
