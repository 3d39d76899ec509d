"""The page's server: static files under a strict Content-Security-Policy, the page's settings, health and metrics."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.staticfiles import StaticFiles

from reference.wire.metrics import LATENCY_BUCKETS, metrics_response
from reference.wire.serving import new_application
from reference.wire.settings import ServerSettings

PAGE = Path(__file__).parent / "page"


class WebSettings(ServerSettings):
    """Settings of the chat page's server."""

    port: int = 8080
    """The port to listen on."""
    api_base: str = ""
    """Where the API is, such as https://api.example.org; empty: on the page's own origin, as behind an ingress."""


class WebMetrics:
    """The registry of one page server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("windtunnel_web_requests", "Requests answered.", ["status"], registry=self.registry)
        self.in_flight = Gauge("windtunnel_web_in_flight", "Requests under way.", registry=self.registry)
        self.seconds = Histogram(
            "windtunnel_web_request_seconds",
            "From arrival to the answer.",
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )


def security_headers(api_base: str) -> dict[str, str]:
    """Return the headers of every answer: nothing but our own files, and no request but to the API."""
    api = urlsplit(api_base)
    origin = f" {api.scheme}://{api.netloc}" if api.netloc else ""
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src 'self'{origin}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    return {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "permissions-policy": "camera=(), microphone=(), geolocation=()",
    }


def web_application(settings: WebSettings) -> FastAPI:
    """Make the page server's application."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    application = new_application("windtunnel llm-web", lifespan)
    metrics, headers = WebMetrics(), security_headers(settings.api_base)

    @application.middleware("http")
    async def observe(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        began = time.monotonic()
        with metrics.in_flight.track_inprogress():
            response = await answer(request)
        metrics.requests.labels(str(response.status_code)).inc()
        metrics.seconds.observe(time.monotonic() - began)
        response.headers.update(headers)
        return response

    @application.get("/healthz")
    @application.get("/readyz")
    async def healthz() -> Response:
        return Response(status_code=200)

    @application.get("/metrics")
    async def read_metrics() -> Response:
        return metrics_response(metrics.registry)

    @application.get("/settings.json")
    async def page_settings() -> dict[str, str]:
        return {"api_base": settings.api_base.rstrip("/")}

    application.mount("/", StaticFiles(directory=PAGE, html=True))
    return application
