"""The gateway's server: who, may they, is it valid, how much is left; then the relay to the router, and the account."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from fastapi import FastAPI, Request, Response
from starlette.middleware.cors import CORSMiddleware

from reference.gateway.authentication import Caller, Keys
from reference.gateway.description import description
from reference.gateway.metrics import GatewayMetrics
from reference.gateway.models import bodies_for, is_away, models_of
from reference.gateway.settings import GatewaySettings
from reference.gateway.usage import UsageWatch, estimate_tokens
from reference.gateway.validation import read_request
from reference.policy.rate_limits import RateLimits, Reservation
from reference.policy.view import Rejected
from reference.wire.access_log import AccessLog
from reference.wire.asgi import (
    ClientLeft,
    Headers,
    Receive,
    Scope,
    Send,
    read_body,
    respond,
    respond_error,
    unless_client_leaves,
)
from reference.wire.errors import ApiError
from reference.wire.metrics import metrics_response
from reference.wire.relay import Ending, Relayed, relay, session_for_relaying
from reference.wire.serving import ASGIApp, HotRoutes, new_application
from reference.wire.tracing import REQUEST_ID, trace_headers

HOT_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/classify")
PASSED_ON = (b"x-windtunnel-class", b"x-windtunnel-priority", b"x-windtunnel-session", b"x-windtunnel-deadline-seconds")
"""What a client may tell the router; who it is, the gateway tells."""


class Gateway:
    """One gateway process."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self.metrics = GatewayMetrics()
        self._keys = Keys(settings.keys)
        self._limits = RateLimits(
            {tenant: block.limit() for tenant, block in settings.limits.items()},
            settings.default_limit.limit() if settings.default_limit else None,
        )
        path = None if settings.access_log in ("", "-") else Path(settings.access_log)
        self._access_log = AccessLog(path, enabled=bool(settings.access_log))
        self.session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Keep connections to the router as long as the server lives."""
        async with session_for_relaying() as session:
            self.session = session
            yield

    def caller(self, headers: Headers) -> Caller:
        """Return who is asking."""
        return self._keys.caller(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of a hot route, and write its line in the access log."""
        began = time.monotonic()
        request_id, traceparent = trace_headers(scope["headers"])
        seen = _Seen(send)
        caller, model, usage, problem = None, "", None, ""
        self.metrics.in_flight.inc()
        try:
            caller = self._keys.caller(scope["headers"])
            raw = await read_body(receive, self.settings.max_body_bytes)
            model = self._check(scope, raw, caller)
            usage = UsageWatch()
            work = self._forward(scope, caller, seen, request_id, traceparent, usage)
            problem = await unless_client_leaves(receive, work)
        except ApiError as error:
            problem = error.code or error.message
            own: Headers = [(REQUEST_ID, request_id)]
            await respond_error(
                seen, error, own + self._limit_headers(caller) if caller and error.status == 429 else own
            )
        except ClientLeft:
            seen.status = 499
            problem = "the client left"
        finally:
            seconds = time.monotonic() - began
            self.metrics.in_flight.dec()
            self.metrics.answered(scope["path"], seen.status, seconds, seen.first_byte_after(began))
            self._access_log.write(
                request_id=request_id.decode("latin-1"),
                path=scope["path"],
                tenant=caller.tenant if caller else None,
                model=model or None,
                status=seen.status,
                seconds=round(seconds, 6),
                first_byte_seconds=seen.first_byte_after(began),
                input_tokens=usage.input_tokens if usage else None,
                output_tokens=usage.output_tokens if usage else None,
                problem=problem or None,
            )

    def _check(self, scope: Scope, raw: bytes, caller: Caller) -> str:
        for name, value in scope["headers"]:
            if name == b"content-type" and not value.lower().startswith(b"application/json"):
                text = value.decode("latin-1")
                raise ApiError(
                    415, f"the content type is {text}; expected application/json", code="unsupported_media_type"
                )
        body = read_request(scope["path"], raw)
        model: str = body["model"]
        caller.require(model)
        scope["windtunnel.estimate"] = estimate_tokens(scope["path"], body)
        scope["windtunnel.bodies"] = bodies_for(self.settings.aliases, model, body, raw)
        return model

    async def _forward(
        self,
        scope: Scope,
        caller: Caller,
        send: Send,
        request_id: bytes,
        traceparent: bytes,
        usage: UsageWatch,
    ) -> str:
        """Reserve, relay, settle. Returns a word for the access log when it did not go well."""
        reserved = self._limits.reserve(caller.tenant, scope["windtunnel.estimate"], time.monotonic())
        if isinstance(reserved, Rejected):
            self.metrics.limited.labels(caller.tenant).inc()
            raise ApiError(
                429, reserved.reason, code="rate_limit_exceeded", retry_after_seconds=reserved.retry_after_seconds
            )
        has_begun = False

        def began() -> None:
            nonlocal has_begun
            has_begun = True

        try:
            assert self.session is not None
            for body in scope["windtunnel.bodies"]:
                relayed = await relay(
                    self.session,
                    self.settings.router_url + scope["path"],
                    body,
                    self._headers_for_router(scope, caller, request_id, traceparent),
                    send,
                    extra_headers=self._limit_headers(caller),
                    on_first_byte=began,
                    watch=usage.feed,
                )
                if not is_away(relayed):
                    break
            return await self._end(relayed, send, request_id)
        finally:
            self._close(reserved, usage, has_begun=has_begun)

    def _close(self, reserved: Reservation, usage: UsageWatch, *, has_begun: bool) -> None:
        now = time.monotonic()
        if has_begun:
            used = usage.total_tokens
            self._limits.settle(reserved, reserved.tokens if used is None else used, now)
        else:
            self._limits.refund(reserved, now)

    async def _end(self, relayed: Relayed, send: Send, request_id: bytes) -> str:
        own: Headers = [(REQUEST_ID, request_id)]
        match relayed.ending:
            case Ending.ERROR_STATUS:
                kept = [(name, value) for name, value in relayed.headers if name != REQUEST_ID]
                await respond(send, relayed.status, relayed.body, [*kept, *own])
                return f"the router answered {relayed.status}"
            case Ending.UNREACHABLE:
                raise ApiError(502, "the router cannot be reached", code="upstream_unreachable")
            case Ending.BROKEN:
                return relayed.detail
        return ""

    def _headers_for_router(
        self, scope: Scope, caller: Caller, request_id: bytes, traceparent: bytes
    ) -> dict[str, str]:
        """Name what goes on: never the client's key."""
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in PASSED_ON}
        headers["content-type"] = "application/json"
        headers["x-request-id"] = request_id.decode("latin-1")
        headers["traceparent"] = traceparent.decode("latin-1")
        headers["x-windtunnel-tenant"] = caller.tenant
        return headers

    def _limit_headers(self, caller: Caller) -> Headers:
        limit = self.settings.limits.get(caller.tenant, self.settings.default_limit)
        if limit is None:
            return []
        requests, tokens = self._limits.remaining(caller.tenant, time.monotonic())
        headers: Headers = []
        if requests is not None:
            headers += _limit_pair(b"requests", limit.request_burst, limit.requests_per_second, requests)
        if tokens is not None:
            headers += _limit_pair(b"tokens", limit.token_burst, limit.tokens_per_second, tokens)
        return headers


def _limit_pair(what: bytes, burst: int | None, per_second: float | None, left: int) -> Headers:
    """Name how much there is at once, and how much of it is left."""
    size = burst if burst is not None else max(1, round(per_second or 0.0))
    return [(b"x-ratelimit-limit-" + what, b"%d" % size), (b"x-ratelimit-remaining-" + what, b"%d" % left)]


class _Seen:
    """Passes messages to the client and notes the status and when the first byte went."""

    __slots__ = ("_send", "first_byte_at", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.first_byte_at: float | None = None

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.first_byte_at = time.monotonic()
        await self._send(message)

    def first_byte_after(self, began: float) -> float | None:
        """Return the seconds to the first byte, None when there was none."""
        return None if self.first_byte_at is None else round(self.first_byte_at - began, 6)


def gateway_application(settings: GatewaySettings) -> ASGIApp:
    """Make the gateway's application."""
    gateway = Gateway(settings)
    application = new_application("windtunnel llm-api", gateway.lifespan)
    application.state.gateway = gateway
    told = description("windtunnel llm-api", application.version, needs_key=bool(settings.keys))
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

    return _for_browsers(HotRoutes(application, gateway, HOT_PATHS), settings.allowed_origins)


def _for_browsers(application: HotRoutes, origins: tuple[str, ...]) -> ASGIApp:
    """Let pages of other origins call, where there are any that may."""
    if not origins:
        return application
    return CORSMiddleware(
        application,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type"],
        expose_headers=["x-request-id", "retry-after"],
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
