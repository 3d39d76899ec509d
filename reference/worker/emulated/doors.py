"""A worker's doors: refusing connections as a server does that is not there, and resetting those that are."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any

from reference.wire.asgi import Send

if TYPE_CHECKING:
    import uvicorn

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST and not FIN."""


class Doors:
    """The listening sockets of a server. Closed for a while nobody listens: connections are refused at once."""

    def __init__(self, server: uvicorn.Server) -> None:
        self._server = server
        self._addresses: list[Any] = []
        self._opening: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def close(self, seconds: float) -> None:
        """Refuse new connections for so long from now; those that are there stay."""
        if not self._addresses:
            for server in self._server.servers:
                self._addresses += [listener.getsockname() for listener in server.sockets]
                server.close()
        if self._opening is not None:
            self._opening.cancel()
        loop = asyncio.get_running_loop()
        self._opening = loop.call_later(seconds, self._begin_to_open)

    def _begin_to_open(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self.open())

    async def open(self) -> None:
        """Listen again where it was."""
        addresses, self._addresses, self._opening = self._addresses, [], None
        server, config = self._server, self._server.config

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
                config=config,
                server_state=server.server_state,
                app_state=server.lifespan.state,
            )
            return made

        loop = asyncio.get_running_loop()
        server.servers = [
            await loop.create_server(protocol, host=address[0], port=address[1], backlog=config.backlog)
            for address in addresses
        ]


async def reset(send: Send) -> None:
    """Reset the connection that an answer would go to, as a process that is killed leaves it."""
    transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]  # uvicorn's own cycle
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
    # the server hears of it before the answer returns unfinished
    await asyncio.sleep(0)
