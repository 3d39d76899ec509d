"""A bert worker in memory: called as an ASGI server would, with a model that is made up or real."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference.worker.bert.layout import Layout
from reference.worker.bert.server import LoadedModel, bert_application
from reference.worker.bert.settings import BertSettings
from reference.worker.ending import Ending


class FakeModel:
    """Words are tokens, a text's vector is (number of tokens, sum of tokens), and a pass takes a while."""

    size = 2
    vocabulary_size = 1000

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.batches: list[list[list[int]]] = []
        self.fails = False

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [[len(word) for word in text.split()] for text in texts]

    def frame(self, tokens: list[int]) -> list[int]:
        return [1, *tokens, 2]

    def compute(self, batch: Sequence[Sequence[int]]) -> Any:
        self.batches.append([list(tokens) for tokens in batch])
        time.sleep(self.seconds)
        if self.fails:
            raise RuntimeError("out of memory, say")
        return np.array([[len(tokens), sum(tokens)] for tokens in batch], dtype=np.float32)

    def warm_up(self) -> None:
        self.compute([[0]])
        self.batches.clear()


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Caller:
    """Calls a running worker."""

    application: Any
    worker: Any

    async def post(self, path: str, body: Any, leaves_after: float | None = None) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self._call("POST", path, raw, leaves_after)

    async def get(self, path: str) -> Answer:
        return await self._call("GET", path, b"", None)

    async def until_ready(self) -> None:
        while (await self.get("/readyz")).status != 200:
            await asyncio.sleep(0.01)

    async def _call(self, method: str, path: str, raw: bytes, leaves_after: float | None) -> Answer:
        answer = Answer()
        messages = [{"type": "http.request", "body": raw, "more_body": False}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await asyncio.sleep(3600 if leaves_after is None else leaves_after)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                answer.body += message.get("body", b"")

        scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", "root_path": ""}
        scope |= {"http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}
        await self.application(scope, receive, send)
        return answer


Running = Callable[..., AbstractAsyncContextManager[Caller]]


@pytest.fixture
def running() -> Running:
    """A context in which a worker runs: by a layout, a way to make its model, and settings."""

    @asynccontextmanager
    async def run(make: Callable[[], LoadedModel] | None = None, layout: Layout | None = None, **settings: Any) -> Any:
        layout = layout or Layout(Path("nowhere"), 64)
        chosen = BertSettings(model="m", model_dir=layout.path, **settings)
        application = bert_application(chosen, layout, Ending(), make)
        worker = application.state.worker  # type: ignore[attr-defined]
        async with worker.lifespan(None):
            yield Caller(application, worker)

    return run


@pytest.fixture
def fake() -> Callable[..., FakeModel]:
    """The made-up model."""
    return FakeModel
