"""The hot routes' own way in: uvicorn's protocol catches them where the bytes come in, everything else stays ASGI.

A `Call` is one request of a hot route. It is handed to the route's handler, in a task of its own, when it has come
whole; what the handler answers goes straight to the socket. A client that leaves cancels that task at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from reference.wire.asgi import JSON, Headers
from reference.wire.errors import ApiError
from reference.wire.http_client import Upstream

ARRIVAL_SECONDS = 60.0
"""A request that has not come whole by then is answered 408."""
STALL_SECONDS = 60.0
"""A client that takes nothing of its answer for so long is let go."""
LINGER_SECONDS = 1.0
"""How long a refused body is read and thrown away: a connection closed with bytes unread takes the answer with it."""
MAX_HEAD_BYTES = 64 * 1024
"""A request whose headers are not complete by then is answered 431."""

INTERNAL = ApiError(500, "the server made a mistake; its log has it under this request's id", code="internal_error")

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_log = logging.getLogger("uvicorn.error")


class Call:
    """One request of a hot route, and the way back to its client.

    Life: come → `respond`, or `begin` → `write`* → `end`; or the client leaves. Nothing is sent to one that has left.
    """

    __slots__ = (
        "_head",
        "_is_chunked",
        "_protocol",
        "disconnected",
        "expects_continue",
        "headers",
        "is_http10",
        "is_whole",
        "keep_alive",
        "num_bytes",
        "parts",
        "path",
        "problem",
        "response_complete",
        "started_at",
        "status",
        "task",
    )

    def __init__(
        self, protocol: HotProtocol, path: str, headers: Headers, *, is_http10: bool = False, keep_alive: bool = False
    ) -> None:
        self.path = path
        self.headers = headers
        self.is_http10 = is_http10
        self.keep_alive = keep_alive
        self.expects_continue = False
        self.status = 0
        """What was answered, 0 as long as nothing was."""
        self.started_at: float | None = None
        """When the first byte of the answer went, on the monotonic clock."""
        self.problem: ApiError | None = None
        self.parts: list[bytes] = []
        self.num_bytes = 0
        self.is_whole = False
        self.task: asyncio.Task[None] | None = None
        # the next two are what uvicorn asks of whatever stands first on a connection
        self.response_complete = False
        self.disconnected = False
        self._protocol = protocol
        self._head = b""
        self._is_chunked = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that all of it runs in."""
        return self._protocol.loop

    def body(self) -> bytes:
        """Return the request's body.

        Raises:
            ApiError: it did not come whole: 413, 408.
        """
        if self.problem is not None:
            raise self.problem
        parts, self.parts = self.parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def respond(self, status: int, body: bytes, headers: Headers) -> None:
        """Answer whole."""
        self.begin(status, [*headers, (b"content-length", b"%d" % len(body))], is_chunked=False)
        self.end(body)

    def respond_error(self, error: ApiError, headers: Headers) -> None:
        """Answer with an error object, its status and headers."""
        own = [(name.encode(), value.encode()) for name, value in error.headers.items()]
        self.respond(error.status, error.body, [JSON, *own, *headers])

    def begin(self, status: int, headers: Headers, *, is_chunked: bool = True) -> None:
        """Begin an answer; its head goes with the first bytes of its body."""
        self._is_chunked = is_chunked and not self.is_http10
        if (is_chunked and self.is_http10) or not self.is_whole:
            self.keep_alive = False
        lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        lines += [b"%s: %s\r\n" % pair for pair in headers]
        if self._is_chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        elif self.is_http10:
            lines.append(b"connection: keep-alive\r\n")
        lines.append(b"\r\n")
        self.status = status
        self._head = b"".join(lines)

    def write(self, chunk: bytes) -> None:
        """Send the next bytes of the body."""
        if self.disconnected:
            return
        if self.started_at is None:
            self.started_at = time.monotonic()
        if self._is_chunked and chunk:
            chunk = b"%b%x\r\n%b\r\n" % (self._head, len(chunk), chunk)
        elif self._head:
            chunk = self._head + chunk
        self._head = b""
        self._protocol.transport.write(chunk)

    def end(self, last: bytes = b"") -> None:
        """End the answer with its last bytes, if there are any."""
        if self.response_complete:
            return
        self.response_complete = True
        if self._is_chunked:
            last = b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last) if last else b"0\r\n\r\n"
            self._is_chunked = False
        if last or self._head:
            self.write(last)
        if not self.disconnected:
            self._protocol.call_ended(self)

    def break_off(self) -> None:
        """Close the connection in the middle of an answer, so that nobody takes it for a whole one."""
        self.response_complete = True
        self._protocol.transport.close()

    def follow(self, source: Upstream) -> None:
        """Let the client's pace be that of the connection its answer comes from."""
        self._protocol.source = source
        if self._protocol.flow.write_paused:
            source.pause()

    def unfollow(self) -> None:
        """The answer has come."""
        self._protocol.source = None


@dataclass(frozen=True, slots=True)
class CallRoutes:
    """The paths that see all the traffic, POST only, what serves them, and how large a body may be."""

    handler: Callable[[Call], Awaitable[None]]
    paths: Iterable[str]
    max_body_bytes: int


class HotProtocol(HttpToolsProtocol):
    """One connection of a client. Calls of hot routes stand in its pipeline beside uvicorn's own requests."""

    def __init__(self, routes: CallRoutes, **told: Any) -> None:
        super().__init__(**told)
        self._routes = routes
        self._paths = {path.encode(): path for path in routes.paths}
        self._running: Call | None = None
        self._arrival: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._is_in_head = False
        self._num_head_bytes = 0
        self.source: Upstream | None = None

    # What the transport tells

    def data_received(self, data: bytes) -> None:
        """Take what came; see that it comes to an end."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        call: Any = self.cycle
        is_partial = self._is_in_head or (isinstance(call, Call) and not call.is_whole)
        if not is_partial:
            if self._arrival is not None:
                self._arrival.cancel()
                self._arrival = None
            return
        if self._is_in_head:
            self._num_head_bytes += len(data)
            if self._num_head_bytes > MAX_HEAD_BYTES:
                self._refuse(ApiError(431, f"the headers are larger than {MAX_HEAD_BYTES:,} bytes"))
                return
        if self._arrival is None:
            self._arrival = self.loop.call_later(ARRIVAL_SECONDS, self._is_late)

    def connection_lost(self, error: Exception | None) -> None:
        """The client left: whatever was under way for it ends now."""
        for timer in (self._arrival, self._stall, self._idle):
            if timer is not None:
                timer.cancel()
        for call in {self._running, self.cycle, *(waiting for waiting, _ in self.pipeline)}:
            if isinstance(call, Call) and not call.response_complete:
                call.disconnected = True
                if call.task is not None:
                    call.task.cancel()
        if isinstance(self.cycle, Call):
            self.cycle = None  # uvicorn starts with this, too
        self._running = self.source = None
        self.pipeline.clear()
        super().connection_lost(error)

    def pause_writing(self) -> None:
        """The client is slower than its answer: let that wait, for a while."""
        super().pause_writing()
        if self.source is not None:
            self.source.pause()
        if self._stall is None:
            self._stall = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        if self.source is not None:
            self.source.resume()

    # What the parser tells

    def on_message_begin(self) -> None:
        """A request begins; its scope is made only when it is for the application."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._is_in_head = True
        self._num_head_bytes = 0

    def on_headers_complete(self) -> None:
        """Decide whose request it is."""
        self._is_in_head = False
        path = self._hot_path()
        if path is None:
            self._leave_to_the_application()
            return
        is_http10 = self.parser.get_http_version() == "1.0"
        before = self.cycle
        call = Call(self, path, self.headers, is_http10=is_http10, keep_alive=self.parser.should_keep_alive())
        call.expects_continue = self.expect_100_continue
        self.cycle = call  # type: ignore[assignment]  # it answers what uvicorn asks of a cycle
        for name, value in self.headers:
            # the parser has seen to it that it is a number
            if name == b"content-length" and int(value) > self._routes.max_body_bytes:
                call.problem = self._too_large()
        if before is None or before.response_complete:
            self._turn(call)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((call, self.app))  # type: ignore[arg-type]

    def on_body(self, body: bytes) -> None:
        """Keep a piece of a call's body."""
        call: Any = self.cycle
        if not isinstance(call, Call):
            super().on_body(body)
            return
        if call.problem is not None or call.response_complete:
            return
        call.num_bytes += len(body)
        if call.num_bytes > self._routes.max_body_bytes:
            call.problem = self._too_large()
            call.parts.clear()
            self._start(call)
        else:
            call.parts.append(body)

    def on_message_complete(self) -> None:
        """A request is whole; a call is started when its turn has come."""
        call: Any = self.cycle
        if not isinstance(call, Call):
            super().on_message_complete()
            return
        call.is_whole = True
        if call.response_complete:
            # it was refused before it had come whole; now the answer can no longer be lost
            self.transport.close()
        else:
            self._start(call)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, unless an answer to something else is on its way."""
        self._refuse(ApiError(400, msg, code="malformed_request"))

    # A call's life

    def call_ended(self, call: Call) -> None:
        """Go on to the next request when a call has been answered."""
        self._running = None
        if call.is_whole:
            if not call.keep_alive:
                self.transport.close()
            self.on_response_complete()
        else:
            self.flow.resume_reading()
            self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def on_response_complete(self) -> None:
        """Go on as uvicorn does, with one timer for many answers: to look when it rings costs less than one each."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self._idle is None:
            self._idle = self.loop.call_later(self.timeout_keep_alive, self._look_whether_idle)

    def _look_whether_idle(self) -> None:
        self._idle = None
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if self._arrival is not None or not (self.cycle is None or self.cycle.response_complete):
            # its end arms the timer again
            return
        if left > 0:
            # the timer's clock is coarser than a moment
            self._idle = self.loop.call_later(max(left, 0.001), self._look_whether_idle)
        else:
            self.timeout_keep_alive_handler()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, Call):
            self._turn(cycle)
        else:
            super()._start_asgi_task(cycle, app)

    def _turn(self, call: Call) -> None:
        self._running = call
        if call.expects_continue and not call.is_whole and call.problem is None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._start(call)

    def _start(self, call: Call) -> None:
        """Hand a call to its handler once: when it is its turn, and there is something to be said."""
        if call is not self._running or call.task is not None or not (call.is_whole or call.problem):
            return
        call.task = self.loop.create_task(self._serve(call))
        self.tasks.add(call.task)

    async def _serve(self, call: Call) -> None:
        try:
            await self._routes.handler(call)
            if not (call.response_complete or call.disconnected):
                raise RuntimeError("the handler returned before its answer was complete")
        except asyncio.CancelledError:
            if not call.disconnected:
                self.transport.abort()
                raise
        except Exception:
            _log.exception("%s failed", call.path)
            if call.status:
                call.break_off()
            else:
                call.respond_error(INTERNAL, [])
        finally:
            # rather than in a callback of the task, which takes another turn of the loop
            self.tasks.discard(call.task)

    def _hot_path(self) -> str | None:
        if self.parser.get_method() != b"POST":
            return None
        found = self._paths.get(self.url)
        if found is None and self.url:
            path = unquote((httptools.parse_url(self.url).path or b"").decode("ascii"))
            found = self._paths.get(path.encode())
        return found

    def _leave_to_the_application(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()

    def _too_large(self) -> ApiError:
        limit = self._routes.max_body_bytes
        return ApiError(413, f"the body is larger than {limit:,} bytes", code="request_too_large")

    def _is_late(self) -> None:
        self._arrival = None
        if self._running is not None and self._running.is_whole:
            # an answer is on its way; the next request may take its time, and may have been made to
            self._arrival = self.loop.call_later(ARRIVAL_SECONDS, self._is_late)
            return
        late = ApiError(408, f"the request did not come whole within {ARRIVAL_SECONDS:g} s", code="request_timeout")
        call: Any = self.cycle
        if isinstance(call, Call) and not call.is_whole and not self._is_in_head:
            call.problem = call.problem or late
            self._start(call)
        else:
            self._refuse(late)

    def _refuse(self, error: ApiError) -> None:
        """Answer what is no request, and close; only close when another answer is on its way."""
        if self._running is None and (self.cycle is None or self.cycle.response_complete):
            Call(self, "", []).respond_error(error, [])
        self.transport.close()
