"""The bert worker's server: embeddings and labels, health, readiness after a real forward pass, metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

from fastapi import FastAPI, Response

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
from reference.wire.tracing import REQUEST_ID, trace_headers
from reference.worker.bert.answers import classify_answer, embeddings_answer
from reference.worker.bert.batching import BatchRules
from reference.worker.bert.engine import BatchEngine, Model
from reference.worker.bert.layout import Layout
from reference.worker.bert.metrics import BertMetrics
from reference.worker.bert.requests import Ask, read_ask
from reference.worker.bert.settings import BertSettings
from reference.worker.ending import NO_MODEL, Ending

EMBEDDINGS, CLASSIFY = "/v1/embeddings", "/v1/classify"

_log = logging.getLogger(__name__)


class LoadedModel(Model, Protocol):
    """What the server needs of a model."""

    size: int
    vocabulary_size: int

    def frame(self, tokens: list[int]) -> list[int]:
        """Put special tokens around ids that a client has made itself."""

    def warm_up(self) -> None:
        """Compute one real text."""


class BertWorker:
    """One worker: its engine, its metrics, and the two hot routes on them. Ready once a text has been computed."""

    def __init__(self, settings: BertSettings, layout: Layout, ending: Ending, make: Callable[[], LoadedModel]) -> None:
        self.settings = settings
        self.layout = layout
        self.metrics = BertMetrics(settings.model)
        rules = BatchRules(settings.max_batch_texts, settings.max_batch_tokens, settings.max_wait_seconds)
        self.engine = BatchEngine(rules, settings.max_queued_texts, self.metrics)
        self.metrics.watch_queue(lambda: len(self.engine.queue), lambda: self.engine.queue.num_tokens)
        self.model: LoadedModel | None = None
        self.ending = ending
        self._make = make

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Load the model while the server already says that it lives, and compute as long as it does."""
        loading = asyncio.create_task(self._load())
        computing = asyncio.create_task(self.engine.run())
        yield
        loading.cancel()
        computing.cancel()
        self.engine.close()

    async def _load(self) -> None:
        def load() -> LoadedModel:
            model = self._make()
            model.warm_up()
            return model

        began = time.monotonic()
        try:
            self.model = await self.engine.load(load)  # type: ignore[assignment]
        except Exception:
            # a worker without its model serves nobody: end, and let whoever started it see why
            _log.exception("the model of %s cannot be loaded", self.layout.path)
            self.ending.because(NO_MODEL)
            return
        _log.warning("ready after %.1f s", time.monotonic() - began)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of a hot route."""
        began, path = time.monotonic(), scope["path"]
        request_id, _ = trace_headers(dict(scope["headers"]))
        headers = [(REQUEST_ID, request_id)]
        self.metrics.running.inc()
        status = 500
        try:
            raw = await read_body(receive, self.settings.max_body_bytes)
            answer = await unless_client_leaves(receive, self._answer(path, raw, request_id.decode("latin-1")))
            status = 200
            await respond(send, status, answer, headers)
        except ApiError as error:
            status = error.status
            await respond_error(send, error, headers)
        except ClientLeft:
            status = 499
        finally:
            self.metrics.running.dec()
            self.metrics.answered(path, status, time.monotonic() - began)

    async def _answer(self, path: str, raw: bytes, request_id: str) -> bytes:
        model = self._loaded()
        self._require_kind(path)
        ask = read_ask(raw, self.settings.model)
        if ask.dimensions is not None and ask.dimensions != model.size:
            raise ApiError(
                400, f"dimensions is {ask.dimensions}; vectors of this model have {model.size}", param="dimensions"
            )
        tokens = await self._tokens(ask, model)
        rows = await self.engine.rows(tokens)
        num_tokens = sum(map(len, tokens))
        if path == CLASSIFY:
            return classify_answer(f"classify-{request_id}", self.settings.model, self.layout.labels, rows, num_tokens)
        return embeddings_answer(self.settings.model, rows, num_tokens, as_base64=ask.encoding_format == "base64")

    async def _tokens(self, ask: Ask, model: LoadedModel) -> list[list[int]]:
        texts: Any = ask.texts
        if isinstance(texts[0], str):
            tokens = await self.engine.tokenize(texts)
        else:
            tokens = [model.frame(_known(given, model.vocabulary_size)) for given in texts]
        for place, found in enumerate(tokens):
            if len(found) > self.layout.max_tokens:
                raise ApiError(
                    400,
                    f"input {place} has {len(found):,} tokens; this model takes {self.layout.max_tokens:,} at most",
                    param="input",
                    code="context_length_exceeded",
                )
        return tokens

    def _loaded(self) -> LoadedModel:
        if self.model is None:
            raise ApiError(503, "the model is being loaded", code="not_ready", retry_after_seconds=1.0)
        return self.model

    def _require_kind(self, path: str) -> None:
        if self.layout.classifies and path == EMBEDDINGS:
            raise ApiError(400, "this model gives labels: ask /v1/classify", param="model", code="wrong_kind_of_model")
        if not self.layout.classifies and path == CLASSIFY:
            raise ApiError(
                400, "this model gives embeddings: ask /v1/embeddings", param="model", code="wrong_kind_of_model"
            )


def _known(tokens: list[int], vocabulary_size: int) -> list[int]:
    unknown = next((token for token in tokens if token >= vocabulary_size), None)
    if unknown is not None:
        raise ApiError(400, f"input has the token {unknown}; this model has {vocabulary_size:,}", param="input")
    return tokens


def bert_application(
    settings: BertSettings, layout: Layout, ending: Ending, make: Callable[[], LoadedModel] | None = None
) -> ASGIApp:
    """Make the worker's application; `make` is how its model is made, if not by reading the directory."""

    def load() -> LoadedModel:
        from reference.worker.bert.model import Encoder

        return Encoder(layout, settings.device, settings.threads)

    worker = BertWorker(settings, layout, ending, make or load)
    application = new_application("windtunnel bert worker", worker.lifespan)
    application.state.worker = worker
    _add_routes(application, worker)
    return HotRoutes(application, worker, (EMBEDDINGS, CLASSIFY))


def _add_routes(application: FastAPI, worker: BertWorker) -> None:
    @application.get("/healthz")
    async def healthz() -> Response:
        return Response(status_code=200)

    @application.get("/readyz")
    @application.get("/health")
    async def readyz() -> Response:
        worker._loaded()
        return Response(status_code=200)

    @application.get("/metrics")
    async def metrics() -> Response:
        return metrics_response(worker.metrics.registry)

    @application.get("/v1/models")
    async def models() -> dict[str, Any]:
        entry = {"id": worker.settings.model, "object": "model", "created": 0, "owned_by": "windtunnel"}
        return {"object": "list", "data": [{**entry, "max_model_len": worker.layout.max_tokens}]}
