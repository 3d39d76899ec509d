"""The emulated worker's server: its persona's routes around the worker, and control routes where they are wished."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from reference.tokens import words_to_tokens
from reference.wire.errors import ApiError
from reference.wire.metrics import metrics_response
from reference.wire.serving import ASGIApp, HotRoutes, new_application
from reference.worker.emulated.control import Control, control_port
from reference.worker.emulated.doors import Doors
from reference.worker.emulated.persona import Persona
from reference.worker.emulated.requests import chat_text, read_object
from reference.worker.emulated.settings import EmulatedSettings
from reference.worker.emulated.worker import EmulatedWorker

__all__ = ["EmulatedSettings", "EmulatedWorker", "emulated_application"]

COMPLETIONS = ("/v1/chat/completions", "/v1/completions")
VECTORS = ("/v1/embeddings", "/v1/classify")
SAMPLE_SECONDS = 1.0


def emulated_application(settings: EmulatedSettings) -> ASGIApp:
    """Make the worker's application. `state.server`, where it is set, is the uvicorn that faults may close."""
    worker = EmulatedWorker(settings)
    control = Control(worker.loop, worker.faults, worker.injections, lambda: Doors(application.state.server))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if settings.control_port:
                await stack.enter_async_context(control_port(control, settings.host, settings.control_port))
            tasks = [asyncio.create_task(worker.loop.run()), asyncio.create_task(_sample(worker))]
            yield
            for task in tasks:
                task.cancel()

    application = new_application("windtunnel emulated worker", lifespan)
    application.state.worker = worker
    _speak_as(application, worker.persona)
    _add_common(application, worker)
    _add_vllm(application, worker) if settings.persona == "vllm" else _add_trt(application, worker)
    if settings.control:
        _add_control(application, control)
    return HotRoutes(application, worker, COMPLETIONS + (VECTORS if worker.persona.has_vectors else ()))


async def _sample(worker: EmulatedWorker) -> None:
    while True:
        worker.metrics.rates.sample(time.monotonic())
        await asyncio.sleep(SAMPLE_SECONDS)


def _speak_as(application: FastAPI, persona: Persona) -> None:
    """Let every error be told as this kind of server tells it."""

    async def on_http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return _json(persona.not_found, 404)
        body = persona.error_body(ApiError(error.status_code, str(error.detail)))
        return Response(body, error.status_code, {**(error.headers or {})}, "application/json")

    async def on_api_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return Response(persona.error_body(error), error.status, error.headers, "application/json")

    application.add_exception_handler(HTTPException, on_http_error)
    application.add_exception_handler(ApiError, on_api_error)


def _add_common(application: FastAPI, worker: EmulatedWorker) -> None:
    @application.get("/health")
    async def health() -> Response:
        await worker.faults.before_answer()
        return Response(status_code=200 if worker.is_ready else 503)

    @application.get("/healthz")
    async def healthz() -> Response:
        return Response(status_code=200)

    @application.get("/readyz")
    async def readyz() -> Response:
        return Response(status_code=200 if worker.is_ready else 503)

    @application.get("/version")
    async def version() -> dict[str, str]:
        return {"version": worker.persona.version}

    @application.get("/v1/models")
    async def models() -> dict[str, Any]:
        entry = {"id": worker.settings.model, "object": "model", "created": 0, "owned_by": worker.persona.owner}
        if worker.persona.name == "vllm":
            entry |= {"root": worker.settings.model, "max_model_len": worker.engine_settings.max_model_len}
        return {"object": "list", "data": [entry]}


def _add_vllm(application: FastAPI, worker: EmulatedWorker) -> None:
    @application.get("/metrics")
    async def metrics() -> Response:
        await worker.faults.before_answer()
        return metrics_response(worker.metrics.registry)

    @application.get("/load")
    async def load() -> dict[str, int]:
        return {"server_load": worker.loop.engine.num_running + worker.loop.engine.num_waiting}

    @application.post("/tokenize")
    async def tokenize(request: Request) -> dict[str, Any]:
        body = read_object(await request.body())
        text = chat_text(body) if "messages" in body else str(body.get("prompt", ""))
        tokens = [token & 0x7FFFFFFF for token in words_to_tokens(text)]
        limit = worker.engine_settings.max_model_len
        return {"count": len(tokens), "max_model_len": limit, "tokens": tokens, "token_strs": None}


def _add_trt(application: FastAPI, worker: EmulatedWorker) -> None:
    @application.get("/metrics")
    async def iterations() -> Response:
        """Give the last iterations away: who reads them next does not get them."""
        await worker.faults.before_answer()
        assert worker.iterations is not None
        return _json(worker.iterations.take())

    if worker.settings.perf_metrics:

        @application.get("/prometheus/metrics")
        async def metrics() -> Response:
            await worker.faults.before_answer()
            return metrics_response(worker.metrics.registry)


def _add_control(application: FastAPI, control: Control) -> None:
    @application.api_route("/control/{name}", methods=["GET", "POST", "DELETE"])
    async def act(name: str, request: Request) -> Response:
        return _json(await control.act(request.method, name, await request.body()))


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
