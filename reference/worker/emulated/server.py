"""The emulated worker's server: OpenAI's routes on the engine loop, vLLM's health and metrics, and control routes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response

from reference.engine import Emission, Engine, EngineSettings, Rejected, Sequence, StepCost
from reference.wire.asgi import (
    ClientLeft,
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
from reference.wire.serving import ASGIApp, HotRoutes, new_application
from reference.wire.settings import ServerSettings
from reference.wire.sse import DONE
from reference.wire.tracing import trace_headers
from reference.worker.emulated.answers import (
    EMBEDDING_SIZE,
    Frames,
    classify_answer,
    embedding,
    embeddings_answer,
    usage_of,
    whole_answer,
)
from reference.worker.emulated.choices import has_more, read_choices
from reference.worker.emulated.engine_loop import EngineLoop, Tokens
from reference.worker.emulated.faults import Faults
from reference.worker.emulated.metrics import Timing, WorkerMetrics
from reference.worker.emulated.requests import Ask, read_ask, read_texts
from reference.worker.emulated.several import SeveralChoices

HOT_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/classify")
MAX_BODY_BYTES = 32 * 2**20


class EmulatedSettings(ServerSettings):
    """Settings of an emulated worker. `step_cost` and `engine` as the simulator uses them for the same replica."""

    model: str
    """The model's name."""
    step_cost: dict[str, Any]
    """What a step costs: the fields of `reference.engine.StepCost`."""
    engine: dict[str, Any]
    """The fields of `reference.engine.EngineSettings`."""
    start_seconds: float = 0.0
    """Cold start: not ready for so long."""
    base64_embeddings: bool = True
    """Whether embeddings come as base64 to who asks for it; engines that do not know it answer numbers."""
    control: bool = False
    """Whether the control routes are there, through which faults are set."""


class EmulatedWorker:
    """One worker: the engine, its loop, its metrics and faults, and the routes on them."""

    def __init__(self, settings: EmulatedSettings) -> None:
        self.settings = settings
        self.engine_settings = EngineSettings(**settings.engine)
        engine = Engine(self.engine_settings, StepCost.from_dict(settings.step_cost))
        self.loop = EngineLoop(engine, time.monotonic)
        self.faults = Faults()
        self.metrics = WorkerMetrics(
            engine, settings.model, self.engine_settings.block_size, self.engine_settings.num_blocks
        )
        self.ready_at = time.monotonic() + settings.start_seconds
        self._serial = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a chat or text completion."""
        try:
            body = await read_body(receive, MAX_BODY_BYTES)
            await unless_client_leaves(receive, self._complete(scope, body, send))
        except ApiError as error:
            await respond_error(send, error)
        except ClientLeft:
            return

    async def _complete(self, scope: Scope, raw: bytes, send: Send) -> None:
        timing = Timing(self.metrics, time.monotonic())
        await self.faults.before_answer()
        if self.faults.takes_error():
            raise ApiError(500, "an error on demand", code="injected")
        is_chat = scope["path"].endswith("/chat/completions")
        self._serial += 1
        body = read_object(raw)
        if body.get("model") != self.settings.model:
            raise ApiError(
                404, f"the model {body.get('model')!r} is not served here", param="model", code="model_not_found"
            )
        if scope["path"].endswith(("/embeddings", "/classify")):
            await self._embed(body, send, labels=scope["path"].endswith("/classify"))
            return
        request_id = f"{'chatcmpl' if is_chat else 'cmpl'}-{trace_headers(scope['headers'])[0].decode()}-{self._serial}"
        if has_more(body, is_chat=is_chat):
            await self._several(request_id, body, is_chat, send, timing)
            return
        ask = read_ask(request_id, body, is_chat=is_chat, block_size=self.engine_settings.block_size)
        tokens = self.loop.submit(ask.sequence)
        if isinstance(tokens, Rejected):
            raise ApiError(tokens.status, tokens.reason, code="context_length_exceeded")
        try:
            if ask.is_stream:
                await self._stream(ask, tokens, send, timing)
            else:
                await self._whole(ask, tokens, send, timing)
        finally:
            self.loop.abort(request_id)

    async def _stream(self, ask: Ask, tokens: Tokens, send: Send, timing: Timing) -> None:
        request_id = str(ask.sequence.request_id)
        frames = Frames(request_id, self.settings.model, int(time.time()), is_chat=ask.is_chat)
        emission = await tokens.get()
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        before = frames.first()
        while True:
            timing.token(emission.output_tokens, time.monotonic())
            if not await self._survives(emission.output_tokens, send):
                return
            chunk = before + frames.token(emission.output_tokens - 1)
            before = b""
            if emission.is_finished:
                timing.finished(tokens.waited_seconds)
                await self._finish(ask, emission, frames, chunk, send)
                return
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            emission = await tokens.get()

    async def _finish(self, ask: Ask, emission: Emission, frames: Frames, chunk: bytes, send: Send) -> None:
        end = chunk + frames.last(_reason(ask, emission))
        if ask.wants_usage:
            end += frames.usage(self._usage(ask, emission))
        await send({"type": "http.response.body", "body": end + DONE})

    async def _survives(self, position: int, send: Send) -> bool:
        """Apply the faults of streams before a token; False when the stream has been ended."""
        faults = self.faults
        await faults.while_partitioned()
        if faults.drip_seconds:
            await asyncio.sleep(faults.drip_seconds)
        if faults.die_after_tokens is not None and position > faults.die_after_tokens:
            raise ConnectionResetError("a stream broken on demand")
        if faults.end_after_tokens is not None and position > faults.end_after_tokens:
            await send({"type": "http.response.body", "body": b""})
            return False
        return True

    async def _whole(self, ask: Ask, tokens: Tokens, send: Send, timing: Timing) -> None:
        while True:
            emission = await tokens.get()
            timing.token(emission.output_tokens, time.monotonic())
            if emission.is_finished:
                break
        timing.finished(tokens.waited_seconds)
        body = whole_answer(
            str(ask.sequence.request_id),
            self.settings.model,
            int(time.time()),
            is_chat=ask.is_chat,
            output_tokens=emission.output_tokens,
            reason=_reason(ask, emission),
            usage=self._usage(ask, emission),
        )
        await respond(send, 200, body)

    async def _several(self, request_id: str, body: dict[str, Any], is_chat: bool, send: Send, timing: Timing) -> None:
        """Answer a completion that asks for more than one choice of plain words."""
        choices = read_choices(request_id, body, is_chat=is_chat, block_size=self.engine_settings.block_size)
        answer = SeveralChoices(self.loop, self.settings.model, body, choices, is_chat=is_chat)
        try:
            await answer.run(send, timing, self._survives)
        finally:
            for choice in choices:
                self.loop.abort(choice.sequence.request_id)

    async def _embed(self, body: dict[str, Any], send: Send, *, labels: bool) -> None:
        """Answer with a vector or a label of each text: as many prefills as texts, all in the batch at once."""
        texts = read_texts(body)
        names = [f"embd-{self._serial}-{place}" for place in range(len(texts))]
        waiting = []
        try:
            for name, text in zip(names, texts, strict=True):
                tokens = self.loop.submit(Sequence(name, max(1, len(text)), 1))
                if isinstance(tokens, Rejected):
                    raise ApiError(tokens.status, tokens.reason, param="input", code="context_length_exceeded")
                waiting.append(tokens)
            for tokens in waiting:
                await tokens.get()
        finally:
            for name in names:
                self.loop.abort(name)
        if labels:
            await respond(send, 200, classify_answer(self.settings.model, texts))
            return
        vectors = [embedding(text) for text in texts]
        as_base64 = self.settings.base64_embeddings and body.get("encoding_format") == "base64"
        count = sum(map(len, texts))
        dimensions = int(body.get("dimensions") or EMBEDDING_SIZE)
        answer = embeddings_answer(self.settings.model, vectors, count, as_base64=as_base64, dimensions=dimensions)
        await respond(send, 200, answer)

    def _usage(self, ask: Ask, emission: Emission) -> dict[str, Any]:
        extra = 1000 if self.faults.wrong_usage else 0
        return usage_of(ask.sequence.input_tokens, emission.output_tokens + extra, emission.cached_tokens)


def _reason(ask: Ask, emission: Emission) -> str:
    return "length" if emission.output_tokens >= ask.max_tokens else "stop"


def read_object(raw: bytes) -> dict[str, Any]:
    """Read a body as a JSON object.

    Raises:
        ApiError: 400, it is none.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"the body is not JSON: {error}", code="invalid_json") from error
    if not isinstance(body, dict):
        raise ApiError(400, f"the body is a JSON {type(body).__name__}; expected an object", code="invalid_json")
    return body


def emulated_application(settings: EmulatedSettings) -> ASGIApp:
    """Make the worker's application."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(worker.loop.run())
        yield
        task.cancel()

    application = new_application("windtunnel emulated worker", lifespan)
    worker = application.state.worker = EmulatedWorker(settings)
    _add_routes(application, worker)
    if settings.control:
        _add_control(application, worker)
    return HotRoutes(application, worker, HOT_PATHS)


def _add_routes(application: FastAPI, worker: EmulatedWorker) -> None:
    @application.get("/health")
    async def health() -> Response:
        await worker.faults.before_answer()
        return Response(status_code=200 if time.monotonic() >= worker.ready_at else 503)

    @application.get("/metrics")
    async def metrics() -> Response:
        await worker.faults.before_answer()
        return metrics_response(worker.metrics.registry)

    @application.get("/load")
    async def load() -> dict[str, int]:
        return {"server_load": worker.loop.engine.num_running + worker.loop.engine.num_waiting}

    @application.get("/v1/models")
    async def models() -> dict[str, Any]:
        limit = worker.engine_settings.max_model_len
        entry = {"id": worker.settings.model, "object": "model", "created": 0, "owned_by": "windtunnel"}
        return {"object": "list", "data": [{**entry, "max_model_len": limit}]}

    @application.post("/tokenize")
    async def tokenize(request: Request) -> dict[str, Any]:
        body = read_object(await request.body())
        count = len(str(body.get("prompt", "")).split())
        return {"count": count, "max_model_len": worker.engine_settings.max_model_len}


def _add_control(application: FastAPI, worker: EmulatedWorker) -> None:
    @application.post("/control/faults")
    async def set_faults(request: Request) -> dict[str, Any]:
        """Set fields of `Faults` by name; the others keep their value."""
        given = read_object(await request.body())
        for name, value in given.items():
            if name not in Faults.__slots__:
                raise ApiError(400, f"there is no fault {name!r}; there are {', '.join(Faults.__slots__)}", param=name)
            setattr(worker.faults, name, value)
        return {name: getattr(worker.faults, name) for name in Faults.__slots__}

    @application.post("/control/slow")
    async def slow(request: Request) -> dict[str, Any]:
        worker.loop.slow(float(read_object(await request.body())["factor"]))
        return {}

    @application.post("/control/stall")
    async def stall(request: Request) -> dict[str, Any]:
        worker.loop.stall(float(read_object(await request.body())["seconds"]))
        return {}

    @application.post("/control/crash")
    async def crash() -> dict[str, Any]:
        os._exit(1)
