"""A relay between two sockets that a test holds both ends of: what the client gets of what the upstream says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import httptools
import orjson
import pytest
import uvloop
from uvicorn import Server

from reference.wire.errors import ApiError
from reference.wire.http_client import Upstreams
from reference.wire.http_server import Call, CallRoutes
from reference.wire.relay import Ending, Relayed, relay
from reference.wire.serving import WithCalls, new_application, server_config

PATH = "/v1/chat/completions"
MAX_BODY_BYTES = 4096
Session = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def request(body: bytes = b"{}", *headers: bytes, path: str = PATH) -> bytes:
    """Return a POST request."""
    lines = [f"POST {path} HTTP/1.1\r\nhost: x\r\n".encode(), *(header + b"\r\n" for header in headers)]
    return b"".join([*lines, b"content-length: %d\r\n\r\n" % len(body), body])


class Between:
    """A server that relays every call to the upstream, whose behaviour is `session`."""

    def __init__(self) -> None:
        self.upstreams = Upstreams()
        self.relayed: list[Relayed] = []
        self.left: list[str] = []
        self.num_connections = 0
        self.sessions: set[asyncio.Task[None]] = set()
        self.session: Session = silent
        self.url = ""
        self.port = 0

    async def handle(self, call: Call) -> None:
        """Relay a call."""
        try:
            body = call.body()
            relayed = await relay(self.upstreams, self.url, body, [], call, extra_headers=[(b"x-own", b"1")])
        except ApiError as error:
            call.respond_error(error, [])
            return
        except asyncio.CancelledError:
            self.left.append(call.path)
            raise
        self.relayed.append(relayed)
        if relayed.ending is Ending.ERROR_STATUS:
            call.respond(relayed.status, relayed.body, [*relayed.headers])
        elif relayed.ending is Ending.UNREACHABLE:
            call.respond_error(ApiError(502, relayed.detail, code="upstream_unreachable"), [])

    async def serve_upstream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be the upstream of one connection."""
        self.num_connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.sessions.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self.session(reader, writer)
        finally:
            self.sessions.discard(task)
            writer.close()

    async def ask(self, raw: bytes | Iterable[bytes | None], *, pause: float = 0.0) -> bytes:
        """Send these bytes, in these pieces (None: the end), and return all that comes back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            with suppress(ConnectionError):
                for piece in [raw] if isinstance(raw, bytes) else raw:
                    writer.write_eof() if piece is None else writer.write(piece)
                    await asyncio.sleep(pause)
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()


class Answer:
    """A response as a client reads it: status, headers, body, and whether it came whole."""

    def __init__(self, raw: bytes) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.is_whole = False
        parser = httptools.HttpResponseParser(self)
        parser.feed_data(raw)
        self.status = parser.get_status_code()

    def on_header(self, name: bytes, value: bytes) -> None:
        assert name.lower() not in self.headers, f"{name!r} came twice"
        self.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.is_whole = True

    @property
    def error(self) -> dict[str, Any]:
        return orjson.loads(self.body)["error"]


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say nothing until the other side goes."""
    await reader.read()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Read one request with a length."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


def saying(*pieces: bytes, then_close: bool = True, pause: float = 0.0) -> Session:
    """Return an upstream that answers a request with these bytes, in these pieces."""

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(pause)
            if then_close:
                return

    return session


@asynccontextmanager
async def between() -> AsyncIterator[Between]:
    """Run the server, and an upstream for it."""
    middle = Between()
    behind = await asyncio.start_server(middle.serve_upstream, "127.0.0.1", 0)
    middle.url = f"http://127.0.0.1:{behind.sockets[0].getsockname()[1]}"

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        yield
        middle.upstreams.close()

    application = new_application("test", lifespan)
    routes = CallRoutes(middle.handle, (PATH,), MAX_BODY_BYTES)
    served = WithCalls(application, routes)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        middle.port = listener.getsockname()[1]
        server = Server(server_config(served, routes, log_level="critical", timeout_graceful_shutdown=1))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.001)
        try:
            yield middle
        finally:
            server.should_exit = True
            await asyncio.wait_for(task, 5)
            behind.close()
            await behind.wait_closed()
            for session in [*middle.sessions]:
                session.cancel()
            await asyncio.gather(*middle.sessions)
            # a closed transport says so to its loop in the next turn
            await asyncio.sleep(0.01)


class Bench:
    """One server and upstream for many examples, on the event loop that servers use."""

    def __init__(self, runner: asyncio.Runner, middle: Between) -> None:
        self._runner = runner
        self.middle = middle

    def ask(self, session: Session, raw: bytes | Iterable[bytes | None]) -> tuple[bytes, list[Relayed]]:
        """Ask an upstream that behaves so; return all that came back, and what became of the relays."""
        middle = self.middle
        middle.session, middle.relayed = session, []
        said = self._runner.run(middle.ask(raw))
        middle.upstreams.close()
        return said, middle.relayed


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """One for all examples of a module."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        context = between()
        yield Bench(runner, runner.run(context.__aenter__()))
        runner.run(context.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def wire() -> SimpleNamespace:
    """What tests of the relay are made of."""
    return SimpleNamespace(
        between=between, request=request, saying=saying, read_request=read_request, path=PATH, answer=Answer
    )
