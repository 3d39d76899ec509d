"""Connections of the sender: kept alive, without Nagle's delay, the name resolved once. Runs inside the pilot only.

geventhttpclient's own pool asks `select` before every request, which ends at 1,024 descriptors, and resolves the name
for every connection; this one is what its response class needs and no more.
"""

from __future__ import annotations

import socket as stdlib_socket
import time
from collections import deque
from typing import Any

import gevent.socket
import gevent.ssl

from e2e.replay.address import Address

MAX_IDLE_SECONDS = 2.0
"""A connection idle for longer is not used again: uvicorn closes after 5 s, and a request sent into that is lost."""


class Connections:
    """A pool that grows as needed. `get_socket` hands one out; the response returns it, or releases it when spoilt."""

    def __init__(self, address: Address, *, connect_seconds: float, verify_tls: bool) -> None:
        self._address = address
        self._connect_seconds = connect_seconds
        self._idle: deque[tuple[float, Any]] = deque()
        self._resolved = gevent.socket.getaddrinfo(address.host, address.port, 0, stdlib_socket.SOCK_STREAM)
        self._tls = None
        if address.is_tls:
            self._tls = gevent.ssl.create_default_context()
            if not verify_tls:
                self._tls.check_hostname = False
                self._tls.verify_mode = gevent.ssl.CERT_NONE
        self.num_opened = 0

    def get_socket(self) -> Any:
        """Return a connection, the one used last if it is still good, else a new one.

        Raises:
            OSError: none could be made.
        """
        idle = self._idle
        while idle:
            since, sock = idle.pop()
            if time.monotonic() - since <= MAX_IDLE_SECONDS and _is_quiet(sock):
                return sock
            sock.close()
        return self._connect()

    def return_socket(self, sock: Any) -> None:
        """Take a connection back whose answer has been read to its end."""
        self._idle.append((time.monotonic(), sock))

    def release_socket(self, sock: Any) -> None:
        """Close a connection that cannot be used again."""
        sock.close()

    def close(self) -> None:
        """Close the idle ones."""
        while self._idle:
            self._idle.pop()[1].close()

    def _connect(self) -> Any:
        failure: OSError | None = None
        for family, kind, protocol, _, where in self._resolved:
            sock = gevent.socket.socket(family, kind, protocol)
            sock.settimeout(self._connect_seconds)
            try:
                sock.connect(where)
                sock.setsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY, 1)
                if self._tls is not None:
                    sock = self._tls.wrap_socket(sock, server_hostname=self._address.host)
            except OSError as error:
                sock.close()
                failure = failure or error
                continue
            except BaseException:
                sock.close()
                raise
            self.num_opened += 1
            return sock
        raise failure or OSError(f"{self._address.host} has no address")


def _is_quiet(sock: Any) -> bool:
    """Say whether an idle connection is still open: one that has something to read was closed, or is out of step."""
    if isinstance(sock, gevent.ssl.SSLSocket):
        return True
    try:
        # the plain recv of the socket underneath: gevent's would wait
        stdlib_socket.socket.recv(sock._sock, 1, stdlib_socket.MSG_PEEK | stdlib_socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
