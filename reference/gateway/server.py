"""The gateway's server: who, may they, is it valid, how much is left; then the relay to the router, and the account."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson
from fastapi import FastAPI, Request, Response
from starlette.middleware.cors import CORSMiddleware

from reference.gateway.authentication import Caller, Keys
from reference.gateway.description import description
from reference.gateway.limits import limits_for, rules_of
from reference.gateway.metrics import GatewayMetrics
from reference.gateway.models import bodies_for, is_away, models_of
from reference.gateway.policy_file import PolicyFile, nothing, running
from reference.gateway.settings import GatewaySettings, Policy
from reference.gateway.usage import UsageWatch, estimate_tokens
from reference.gateway.validation import read_request
from reference.wire.access_log import AccessLog
from reference.wire.asgi import JSON, Headers
from reference.wire.deadlines import Deadlines
from reference.wire.errors import ApiError
from reference.wire.http_client import Upstreams
from reference.wire.http_server import Call, CallRoutes
from reference.wire.metrics import metrics_response
from reference.wire.relay import Ending, Exchange, Relayed, relay, session_for_relaying
from reference.wire.serving import ASGIApp, WithCalls, new_application
from reference.wire.tracing import REQUEST_ID, TRACEPARENT, trace_headers

HOT_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/classify")
PAUSES_SECONDS = (0.05, 0.25)
"""Before a router is asked again that could not be reached, or was lost before it had said anything."""
EXPOSED = ("x-request-id", "retry-after")
"""Headers of an answer that a page of another origin may read."""
TENANT = b"x-windtunnel-tenant"
Told = Mapping[bytes, bytes]
"""A request's headers by name; of one that came twice, the last."""
PASSED_ON = frozenset(
    [
        b"x-windtunnel-class",
        b"x-windtunnel-priority",
        b"x-windtunnel-session",
        b"x-windtunnel-deadline-seconds",
        b"x-windtunnel-debug",
    ]
)
"""What a client may tell the router; who it is, the gateway tells."""


class Wanted(NamedTuple):
    """What a request asks for: its model, the tokens it may use, and the bodies to send until somebody answers."""

    model: str
    tokens: int
    bodies: Iterable[bytes]


class Gateway:
    """One gateway process."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self.metrics = GatewayMetrics()
        policy = settings.policy()
        self.policy_file = PolicyFile(Path(settings.policy_file), self._go_by) if settings.policy_file else None
        if self.policy_file is not None:
            policy = self.policy_file.read()
        self._keys = Keys(policy.keys)
        self.limits = limits_for(settings, policy)
        path = None if settings.access_log in ("", "-") else Path(settings.access_log)
        self._access_log = AccessLog(path, enabled=bool(settings.access_log))
        self.session: aiohttp.ClientSession | None = None
        self._upstreams = Upstreams()
        self._deadlines = Deadlines(settings.max_seconds)

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Keep connections to the router as long as the server lives."""
        watching = self.policy_file.watch() if self.policy_file is not None else nothing()
        async with session_for_relaying() as session, running(self.limits.run()), running(watching):
            self.session = session
            yield
        self._upstreams.close()
        self._access_log.close()

    def _go_by(self, policy: Policy) -> None:
        """Take other keys and limits; requests under way stay what they are."""
        self._keys = Keys(policy.keys)
        self.limits.change(rules_of(policy))

    def caller(self, headers: Headers) -> Caller:
        """Return who is asking."""
        return self._keys.caller(dict(headers))

    async def __call__(self, call: Call) -> None:
        """Serve one request of a hot route, and write its line in the access log."""
        began = time.monotonic()
        told = dict(call.headers)
        request_id, traceparent = trace_headers(told)
        own: Headers = [(REQUEST_ID, request_id), *self._for_browsers(told)]
        caller, wanted, usage, problem = None, None, UsageWatch(), ""
        self.metrics.num_in_flight += 1
        try:
            caller = self._keys.caller(told)
            wanted = self._check(call, told, caller)
            to_router = _headers_for_router(told, caller, own[0], traceparent)
            problem = await self._forward(call, wanted, caller, own, to_router, usage)
        except ApiError as error:
            problem = error.code or error.message
            call.respond_error(error, own)
        except asyncio.CancelledError:
            call.status = 499
            problem = "the client left" if call.disconnected else "the server ended"
            raise
        finally:
            seconds = time.monotonic() - began
            first_byte = None if call.started_at is None else round(call.started_at - began, 6)
            self.metrics.num_in_flight -= 1
            self.metrics.answered(call.path, call.status, seconds, first_byte)
            read, written = usage.tokens()
            self._access_log.write(
                request_id=request_id.decode("latin-1"),
                path=call.path,
                tenant=caller.tenant if caller else None,
                key=(caller.key or None) if caller else None,
                model=wanted.model if wanted else None,
                status=call.status,
                seconds=round(seconds, 6),
                first_byte_seconds=first_byte,
                input_tokens=read,
                output_tokens=written,
                problem=problem or None,
            )

    def _check(self, call: Call, told: Told, caller: Caller) -> Wanted:
        raw = call.body()
        content_type = told.get(b"content-type", b"application/json")
        if not content_type.lower().startswith(b"application/json"):
            text = content_type.decode("latin-1")
            raise ApiError(415, f"the content type is {text}; expected application/json", code="unsupported_media_type")
        body = read_request(call.path, raw)
        model: str = body["model"]
        caller.require(model)
        return Wanted(model, estimate_tokens(call.path, body), bodies_for(self.settings.aliases, model, body, raw))

    async def _forward(
        self, call: Call, wanted: Wanted, caller: Caller, own: Headers, to_router: Headers, usage: UsageWatch
    ) -> str:
        """Reserve, relay, settle. Returns a word for the access log when it did not go well."""
        admission = await self.limits.reserve(caller.tenant, caller.key, wanted.tokens)
        own += admission.headers
        if admission.rejected is not None:
            reason, wait = admission.rejected.reason, admission.rejected.retry_after_seconds
            self.metrics.limited(caller.tenant)
            raise ApiError(429, reason, code="rate_limit_exceeded", retry_after_seconds=wait)
        has_begun = False

        def began() -> None:
            nonlocal has_begun
            has_begun = True

        exchange = Exchange()
        self._deadlines.begin(exchange, call.loop)
        try:
            for body in wanted.bodies:
                for pause in (*PAUSES_SECONDS, None):
                    relayed = await relay(
                        self._upstreams,
                        self.settings.router_url,
                        body,
                        to_router,
                        call,
                        extra_headers=own,
                        on_first_byte=began,
                        watch=usage.feed,
                        exchange=exchange,
                    )
                    if pause is None or exchange.is_abandoned or relayed.ending is not Ending.UNREACHABLE:
                        break
                    # the router behind its service's address may be another one the next time
                    await asyncio.sleep(pause)
                if exchange.is_abandoned or not is_away(relayed):
                    break
            if exchange.is_abandoned and relayed.ending is Ending.UNREACHABLE:
                seconds = self.settings.max_seconds
                raise ApiError(504, f"the answer has not begun within {seconds:g} s", code="request_timeout")
            return _end(relayed, call, own)
        finally:
            self._deadlines.end(exchange)
            read, written = usage.tokens()
            self.metrics.used(caller.tenant, caller.key, read, written)
            used = wanted.tokens if read is None else read + (written or 0)
            self.limits.close(admission, used if has_begun else None)

    def _for_browsers(self, told: Told) -> Headers:
        """Let the page that asks read the answer, when it is of an origin that may call."""
        if not self.settings.allowed_origins:
            return []
        origin = told.get(b"origin")
        if origin is None or not {"*", origin.decode("latin-1")} & {*self.settings.allowed_origins}:
            return []
        exposed = ", ".join(EXPOSED).encode()
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", exposed),
            (b"vary", b"Origin"),
        ]


def _headers_for_router(told: Told, caller: Caller, request_id: tuple[bytes, bytes], traceparent: bytes) -> Headers:
    """Name what goes on: never the client's key."""
    tenant = caller.tenant.encode("latin-1", "replace")
    headers = [JSON, request_id, (TRACEPARENT, traceparent), (TENANT, tenant)]
    if not PASSED_ON.isdisjoint(told):
        headers += [(name, told[name]) for name in sorted(PASSED_ON & told.keys())]
    return headers


def _end(relayed: Relayed, call: Call, own: Headers) -> str:
    match relayed.ending:
        case Ending.ERROR_STATUS:
            call.respond(relayed.status, relayed.body, [*relayed.headers, *own])
            return f"the router answered {relayed.status}"
        case Ending.UNREACHABLE:
            raise ApiError(502, "the router cannot be reached", code="upstream_unreachable")
        case Ending.BROKEN:
            return relayed.detail
    return ""


def gateway_application(settings: GatewaySettings) -> WithCalls:
    """Make the gateway's application."""
    gateway = Gateway(settings)
    application = new_application("windtunnel llm-api", gateway.lifespan)
    application.state.gateway = gateway
    told = description("windtunnel llm-api", application.version, needs_key=bool(settings.keys or settings.policy_file))
    # FastAPI cannot know the types of bodies that it does not see
    application.openapi = lambda: told  # type: ignore[method-assign]

    @application.get("/healthz")
    async def healthz() -> Response:
        return Response(status_code=200)

    @application.get("/readyz")
    async def readyz() -> Response:
        return Response(status_code=await _router_status(gateway, "/readyz"))

    @application.get("/metrics")
    async def metrics() -> Response:
        return metrics_response(gateway.metrics.registry)

    @application.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        caller = gateway.caller(request.scope["headers"])
        return {"object": "list", "data": models_of(caller, await _models(gateway), gateway.settings.aliases)}

    @application.get("/v1/models/{model:path}")
    async def model(model: str, request: Request) -> dict[str, Any]:
        caller = gateway.caller(request.scope["headers"])
        for entry in models_of(caller, await _models(gateway), gateway.settings.aliases):
            if entry["id"] == model:
                return entry
        raise ApiError(404, f"the model {model!r} does not exist", param="model", code="model_not_found")

    routes = CallRoutes(gateway, HOT_PATHS, settings.max_body_bytes)
    return WithCalls(application, routes, _for_browsers(application, settings.allowed_origins))


def _for_browsers(application: FastAPI, origins: tuple[str, ...]) -> ASGIApp:
    """Let pages of other origins call, where there are any that may."""
    if not origins:
        return application
    return CORSMiddleware(
        application,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type"],
        expose_headers=list(EXPOSED),
    )


async def _models(gateway: Gateway) -> list[dict[str, Any]]:
    assert gateway.session is not None
    try:
        async with gateway.session.get(f"{gateway.settings.router_url}/v1/models") as answer:
            entries: list[dict[str, Any]] = orjson.loads(await answer.read())["data"]
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ApiError(502, "the router cannot be reached", code="upstream_unreachable") from error
    return entries


async def _router_status(gateway: Gateway, path: str) -> int:
    assert gateway.session is not None
    try:
        async with gateway.session.get(gateway.settings.router_url + path) as answer:
            return answer.status
    except (aiohttp.ClientError, OSError, TimeoutError):
        return 503
