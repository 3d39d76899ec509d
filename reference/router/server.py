"""The router's server: OpenAI's routes, a desk per model, the relay to the chosen endpoint."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response

from reference.custom_policy import routing_for
from reference.policy.pool import Action, Dispatch, Fail, Outcome, Pool, Refuse
from reference.router.decision_log import DEBUG, DECISION, DecisionLog, decision_header
from reference.router.desk import Desk
from reference.router.discovery import Discovery, Key, Known
from reference.router.metrics import RouterMetrics
from reference.router.requests import read_object, view_of
from reference.router.settings import RouterSettings
from reference.router.sources import sources_of
from reference.wire.asgi import JSON, Headers
from reference.wire.errors import ApiError
from reference.wire.http_client import Upstreams
from reference.wire.http_server import Call, CallRoutes
from reference.wire.metrics import metrics_response
from reference.wire.relay import Ending, Exchange, Relayed, relay, session_for_relaying
from reference.wire.serving import WithCalls, new_application
from reference.wire.tracing import REQUEST_ID, TRACEPARENT, trace_headers

HOT_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/classify")


class Router:
    """One router process: its desks, and the connection pool that they forward through."""

    def __init__(self, settings: RouterSettings) -> None:
        self.settings = settings
        self.desks: dict[str, Desk] = {}
        self._known: Mapping[Key, Known] = {}
        self._block_size = {pool.model: pool.block_size for pool in settings.pools}
        self._hashes_prompts: dict[str, bool] = {}
        self._serial = 0
        self._log = DecisionLog(Path(settings.decision_log) if settings.decision_log else None)
        self._pools = {pool.model: self._pool_of(place) for place, pool in enumerate(settings.pools)}
        self.metrics = RouterMetrics(self._pools, lambda: self._known.values())
        self._upstreams = Upstreams()

    def _pool_of(self, place: int) -> Pool:
        block = self.settings.pools[place]
        routing = routing_for(block.policy, block.policy_options, Path(block.policy_dir), explain=True)
        self._hashes_prompts[block.model] = hasattr(routing, "dispatched") or ".py:" in block.policy
        return Pool(block.pool_settings(), routing, random.Random(f"{self.settings.seed}/routing/{block.model}").random)

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Open the desks and watch the endpoints as long as the server lives."""
        async with session_for_relaying() as session:
            for model, pool in self._pools.items():
                self.desks[model] = Desk(pool, time.monotonic, self._decided)
            discovery = Discovery(self.settings, self.desks, session, sources_of(self.settings))
            self._known = discovery.known
            discovery.update({block.model: block.endpoints for block in self.settings.pools})
            following = asyncio.create_task(discovery.run())
            yield
            following.cancel()
            discovery.close()
        self._log.close()
        self._upstreams.close()

    def _decided(self, now: float, action: Action) -> None:
        self.metrics.decided(now, action)
        self._log(now, action)

    async def __call__(self, call: Call) -> None:
        """Serve one request of a hot route."""
        request_id, traceparent = trace_headers(dict(call.headers))
        own: Headers = [(REQUEST_ID, request_id), (TRACEPARENT, traceparent)]
        try:
            await self._route(call, own)
        except ApiError as error:
            call.respond_error(error, own)

    async def _route(self, call: Call, own: Headers) -> None:
        raw = call.body()
        body = read_object(raw)
        model = body.get("model")
        desk = self.desks.get(model) if isinstance(model, str) else None
        if desk is None:
            raise ApiError(404, f"the model {model!r} does not exist", param="model", code="model_not_found")
        # an id may come twice from a client; the desk needs its own
        self._serial += 1
        own_id = f"{own[0][1].decode('latin-1')}#{self._serial}"
        hashes = self._hashes_prompts[str(model)]
        view = view_of(own_id, body, call.headers, self._block_size[str(model)], hashes_prompts=hashes)
        last: list[Relayed] = []
        has_asked = DEBUG in call.headers
        shows_decision = has_asked or self.settings.decision_header == "always"

        async def forward(dispatch: Dispatch) -> Outcome:
            known = self._known.get((str(model), dispatch.endpoint))
            if known is None:
                # forgotten between the decision and now
                return Outcome.FAILED
            exchange = Exchange()
            known.flying.add(exchange)
            try:
                relayed = await relay(
                    self._upstreams,
                    known.block.url,
                    raw,
                    [JSON, *own],
                    call,
                    extra_headers=[*own, *([(DECISION, decision_header(dispatch))] if shows_decision else [])],
                    on_first_byte=lambda: desk.first_token(own_id),
                    exchange=exchange,
                )
            finally:
                known.flying.discard(exchange)
            if relayed.is_refused:
                known.watch.is_refused()
            last[:] = [relayed]
            return outcome_of(relayed)

        if has_asked:
            self._log.ask(own_id)
        try:
            ended = await desk.serve(view, forward)
        finally:
            self._log.forget(own_id)
        _answer(ended, last[0] if last else None, call, own)


def _answer(ended: Dispatch | Refuse | Fail, last: Relayed | None, call: Call, own: Headers) -> None:
    """Answer what no endpoint has answered yet."""
    if isinstance(ended, Refuse):
        rejected = ended.rejected
        code = "queue_full" if rejected.status == 429 else "no_endpoint"
        raise ApiError(rejected.status, rejected.reason, code=code, retry_after_seconds=rejected.retry_after_seconds)
    if last is not None and last.ending in (Ending.COMPLETE, Ending.BROKEN):
        return
    if last is not None and last.ending is Ending.ERROR_STATUS:
        call.respond(last.status, last.body, [*last.headers, *own])
        return
    reason = ended.reason if isinstance(ended, Fail) else "the model server is gone"
    raise ApiError(502, f"the model server could not be reached: {reason}", code="upstream_unreachable")


def outcome_of(relayed: Relayed) -> Outcome:
    """Say what an attempt's end means to the pool."""
    match relayed.ending:
        case Ending.COMPLETE:
            return Outcome.OK
        case Ending.ERROR_STATUS if relayed.status in (429, 503):
            return Outcome.REFUSED
        case Ending.ERROR_STATUS if relayed.status < 500:
            return Outcome.CLIENT_ERROR
    return Outcome.FAILED


def router_application(settings: RouterSettings) -> WithCalls:
    """Make the router's application."""
    router = Router(settings)
    application = new_application("windtunnel router", router.lifespan)
    application.state.router = router

    @application.get("/healthz")
    async def healthz() -> Response:
        return Response(status_code=200)

    @application.get("/readyz")
    async def readyz() -> dict[str, Any]:
        ready = {model: len(desk.pool.endpoints) for model, desk in router.desks.items()}
        if not all(ready.values()):
            raise ApiError(503, f"endpoints by model: {ready}", code="not_ready")
        return {"endpoints": ready}

    @application.get("/metrics")
    async def metrics() -> Response:
        return metrics_response(router.metrics.registry)

    @application.get("/v1/models")
    async def models() -> dict[str, Any]:
        entry = {"object": "model", "created": 0, "owned_by": "windtunnel"}
        return {"object": "list", "data": [{"id": model, **entry} for model in router.desks]}

    return WithCalls(application, CallRoutes(router, HOT_PATHS, settings.max_body_bytes))
