"""Running a server: FastAPI with our errors, the hot routes before it, uvicorn around both, a clean end."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from threading import Timer
from types import FrameType
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from reference.wire.asgi import Receive, Scope, Send, respond_error
from reference.wire.errors import ApiError
from reference.wire.http_server import INTERNAL, CallRoutes, HotProtocol
from reference.wire.settings import ServerSettings

if TYPE_CHECKING:
    import uvicorn

KEEP_ALIVE_SECONDS = 60
"""How long a connection may be idle."""

ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


def new_application(title: str, lifespan: Callable[[FastAPI], Any]) -> FastAPI:
    """Make a FastAPI application whose every failure is OpenAI's error object."""
    application = FastAPI(title=title, lifespan=lifespan, docs_url=None, redoc_url=None)

    async def on_http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        known = ApiError(error.status_code, str(error.detail), code=_code_of(error.status_code))
        return Response(known.body, error.status_code, {**(error.headers or {})}, "application/json")

    async def on_api_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return Response(error.body, error.status, error.headers, "application/json")

    async def on_mistake(_: Request, error: Exception) -> Response:
        return Response(INTERNAL.body, INTERNAL.status, media_type="application/json")

    application.add_exception_handler(HTTPException, on_http_error)
    application.add_exception_handler(ApiError, on_api_error)
    application.add_exception_handler(Exception, on_mistake)
    return application


class HotRoutes:
    """Serves the paths that see all the traffic itself, and leaves everything else to the application behind it.

    FastAPI's layers cost more than the whole relay does; the application still has these routes, so that it knows
    which methods they allow.
    """

    def __init__(self, application: FastAPI, handler: ASGIApp, paths: tuple[str, ...]) -> None:
        self.state = application.state
        self._application = application
        self._handler = handler
        self._paths = frozenset(paths)
        application.router.routes.extend(Route(path, handler, methods=["POST"]) for path in paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass on what is none."""
        if scope["type"] != "http" or scope["path"] not in self._paths or scope["method"] != "POST":
            await self._application(scope, receive, send)
            return
        try:
            await self._handler(scope, receive, send)
        except Exception:
            # a server refuses a second answer; whoever has had a part of one sees the connection close
            with suppress(RuntimeError):
                await respond_error(send, INTERNAL)
            raise


class WithCalls:
    """An application whose hot routes are caught on the connection (`reference.wire.http_server`) and never reach it.

    It still knows them, so that it can say which methods they allow.
    """

    def __init__(self, application: FastAPI, routes: CallRoutes, asgi: ASGIApp | None = None) -> None:
        self.state = application.state
        self.routes = routes
        self._asgi = asgi or application
        application.router.routes.extend(Route(path, _not_caught, methods=["POST"]) for path in routes.paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of any other route."""
        await self._asgi(scope, receive, send)


async def _not_caught(_: Request) -> Response:
    raise RuntimeError("this route is served by HotProtocol: run the application with `server_config`")


DRAINING = ApiError(503, "this server is about to end: send nothing more", code="draining")


class Draining:
    """An application that can say it is about to end: `/readyz` is 503 then, and all else goes on as before."""

    def __init__(self, application: ASGIApp) -> None:
        self.is_draining = False
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if self.is_draining and scope.get("path") == "/readyz":
            await respond_error(send, DRAINING)
        else:
            await self._application(scope, receive, send)


def serve(application: ASGIApp, settings: ServerSettings) -> None:
    """Serve until SIGTERM or SIGINT; requests under way may finish within the grace period."""
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if sig != signal.SIGTERM or drained.is_draining or not settings.drain_seconds:
                super().handle_exit(sig, frame)
                return
            drained.is_draining = True
            timer = Timer(settings.drain_seconds, super().handle_exit, (sig, frame))
            timer.daemon = True
            timer.start()

    drained = Draining(application)
    config = server_config(
        drained,
        application.routes if isinstance(application, WithCalls) else None,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        timeout_graceful_shutdown=max(1, int(settings.shutdown_seconds)),
        backlog=4096,
    )
    server = Server(config)
    if (state := getattr(application, "state", None)) is not None:
        state.server = server
    # what has been imported stays for ever, and a request leaves few cycles: look for garbage less often, and not there
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    server.run()
    sys.exit(0 if server.started else 1)


def server_config(application: ASGIApp, routes: CallRoutes | None = None, **more: Any) -> uvicorn.Config:
    """Return how uvicorn serves an application, and its calls where it has some."""
    import uvicorn

    http: Any = partial(HotProtocol, routes) if routes is not None else "httptools"
    fixed: dict[str, Any] = {"access_log": False, "ws": "none", "server_header": False, "date_header": False}
    return uvicorn.Config(application, http=http, timeout_keep_alive=KEEP_ALIVE_SECONDS, **fixed, **more)


def _code_of(status: int) -> str | None:
    return {404: "unknown_url", 405: "method_not_allowed"}.get(status)
