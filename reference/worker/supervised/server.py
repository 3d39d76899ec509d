"""The server around a supervised engine: the relay to it, its health and readiness as they are, its metrics and ours.

Its end is orderly: readiness goes first, streams may finish until a deadline, what is left then ends with a typed error
event, and only then the engine is told. Told earlier, vLLM ends every stream with `finish_reason: "abort"` and [DONE].
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST

from reference.wire.asgi import JSON, Headers
from reference.wire.errors import ApiError, normalised
from reference.wire.http_client import Upstreams
from reference.wire.http_server import Call, CallRoutes
from reference.wire.relay import Ending as RelayEnding
from reference.wire.relay import Exchange, Relayed, relay, session_for_relaying
from reference.wire.serving import WithCalls, new_application
from reference.wire.tracing import REQUEST_ID, TRACEPARENT, trace_headers
from reference.worker.ending import Ending
from reference.worker.supervised.metrics import WorkerMetrics
from reference.worker.supervised.recipe import Recipe
from reference.worker.supervised.settings import SupervisedSettings
from reference.worker.supervised.supervisor import Supervisor

ASK_SECONDS = 2.0
LAST_WORDS_SECONDS = 0.5
"""So long before the server's own deadline, streams that are left end with an error event."""


class SupervisedWorker:
    """One worker: an engine that is kept alive, and the relay to it."""

    def __init__(self, recipe: Recipe, settings: SupervisedSettings, ending: Ending) -> None:
        self.metrics = WorkerMetrics(recipe.name)
        self.flying: set[Exchange] = set()
        self._recipe = recipe
        self._settings = settings
        self._ending = ending
        self._supervisor: Supervisor | None = None
        self._session: aiohttp.ClientSession | None = None
        self._upstreams = Upstreams()

    @property
    def supervisor(self) -> Supervisor:
        """The engine's supervisor; there is one as long as the server lives."""
        assert self._supervisor is not None
        return self._supervisor

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Keep an engine alive as long as the server lives."""
        async with session_for_relaying() as session:
            self._session = session
            self._supervisor = Supervisor(self._recipe, self._settings, session, self._ending, lambda: len(self.flying))
            self.metrics.watch(self._supervisor)
            self._ending.on_signal(self.begin_to_end)
            self._supervisor.start()
            try:
                yield
            finally:
                await self._supervisor.stop()
                self._upstreams.close()

    def begin_to_end(self) -> None:
        """Hear that the server will end: streams have until shortly before its deadline."""
        settings = self._settings
        deadline = settings.drain_seconds + max(1, int(settings.shutdown_seconds)) - LAST_WORDS_SECONDS
        asyncio.get_running_loop().call_later(deadline, self._abandon_all)

    def _abandon_all(self) -> None:
        for exchange in [*self.flying]:
            exchange.abandon()

    async def __call__(self, call: Call) -> None:
        """Relay one request of a hot route to the engine."""
        began = time.monotonic()
        request_id, traceparent = trace_headers(dict(call.headers))
        own: Headers = [(REQUEST_ID, request_id)]
        headers: Headers = [JSON, (REQUEST_ID, request_id), (TRACEPARENT, traceparent)]
        exchange = Exchange()
        self.flying.add(exchange)
        self.metrics.in_flight.inc()
        try:
            raw = call.body()
            url = self._engine_url()
            relayed = await relay(self._upstreams, url, raw, headers, call, extra_headers=own, exchange=exchange)
            _answer(relayed, call, own)
        except ApiError as error:
            call.respond_error(error, own)
        finally:
            self.flying.discard(exchange)
            self.metrics.in_flight.dec()
            first = None if call.started_at is None else call.started_at - began
            status = 499 if call.disconnected else call.status
            self.metrics.answered(call.path, status, time.monotonic() - began, first)

    def _engine_url(self) -> str:
        """Return where the engine listens.

        Raises:
            ApiError: 503, there is none that could answer.
        """
        if not self.supervisor.takes_requests:
            raise ApiError(
                503, f"the model server is {self.supervisor.state.value}", code="not_ready", retry_after_seconds=1.0
            )
        return self.supervisor.url

    def require_ready(self) -> None:
        """Say whether requests should be sent here.

        Raises:
            ApiError: 503, they should not.
        """
        if self.supervisor.state.value != "ready":
            raise ApiError(503, f"the model server is {self.supervisor.state.value}", code="not_ready")

    async def page(self) -> bytes:
        """Return the engine's metrics as they are, and ours after them."""
        theirs = self.supervisor.metrics
        page = await theirs.page() if theirs is not None and self.supervisor.takes_requests else b""
        return page + self.metrics.page()

    async def ask(self, path: str) -> Response:
        """Ask the engine something small and pass its answer on."""
        assert self._session is not None
        url = self._engine_url() + path
        try:
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=ASK_SECONDS)) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ApiError(502, f"the model server does not answer: {error}", code="upstream_unreachable") from error
        told = body if answer.status < 400 else normalised(answer.status, body)
        return Response(told, answer.status, media_type="application/json")


def _answer(relayed: Relayed, call: Call, own: Headers) -> None:
    """Answer what the engine has not answered."""
    if relayed.ending is RelayEnding.ERROR_STATUS:
        call.respond(relayed.status, relayed.body, [*relayed.headers, *own])
    elif relayed.ending is RelayEnding.UNREACHABLE:
        raise ApiError(502, "the model server was lost before it answered", code="upstream_unreachable")


def supervised_application(recipe: Recipe, settings: SupervisedSettings, ending: Ending) -> WithCalls:
    """Make a worker's application."""
    worker = SupervisedWorker(recipe, settings, ending)
    application = new_application(f"windtunnel {recipe.name} worker", worker.lifespan)
    application.state.worker = worker
    _add_routes(application, worker)
    return WithCalls(application, CallRoutes(worker, recipe.hot_paths, settings.max_body_bytes))


def _add_routes(application: FastAPI, worker: SupervisedWorker) -> None:
    @application.get("/healthz")
    async def healthz() -> Response:
        return Response(status_code=200)

    @application.get("/readyz")
    @application.get("/health")
    async def readyz() -> Response:
        worker.require_ready()
        return Response(status_code=200)

    @application.get("/metrics")
    async def metrics() -> Response:
        return Response(await worker.page(), media_type=CONTENT_TYPE_LATEST)

    @application.get("/load")
    async def load() -> dict[str, Any]:
        return {"server_load": len(worker.flying)}

    @application.get("/v1/models")
    async def models() -> Response:
        return await worker.ask("/v1/models")

    @application.get("/version")
    async def version() -> Response:
        return await worker.ask("/version")
