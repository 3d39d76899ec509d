"""Emulated workers on real sockets inside the test's event loop, with their control routes on a port of their own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import uvicorn

from reference.worker.emulated.server import emulated_application
from reference.worker.emulated.settings import EmulatedSettings
from reference.worker.emulated.worker import EmulatedWorker

MODEL = "tiny"


@dataclass
class Running:
    """A worker as it runs, and a client of it."""

    client: aiohttp.ClientSession
    url: str
    control: str
    worker: EmulatedWorker

    def body(self, **more: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": "how does lift come about"}]
        return {"model": MODEL, "messages": messages, "max_tokens": 8, "ignore_eos": True, **more}

    def ask(self, path: str = "/v1/chat/completions", **more: Any) -> Any:
        """Post a chat completion of eight tokens, with fields over it; a context manager of the response."""
        return self.client.post(self.url + path, json=self.body(**more))

    async def status(self, **more: Any) -> int:
        async with self.ask(**more) as answer:
            await answer.read()
            return answer.status

    async def inject(self, **injection: Any) -> list[dict[str, Any]]:
        async with self.client.post(f"{self.control}/control/inject", json=injection) as answer:
            assert answer.status == 200, await answer.text()
            return (await answer.json())["under_way"]

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.client.get(self.url + path) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, await (answer.json() if is_json else answer.text())

    @property
    def num_running(self) -> int:
        return self.worker.loop.engine.num_running + self.worker.loop.engine.num_waiting


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Running]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        control_port = free.getsockname()[1]
    engine = {"max_num_seqs": 8, "max_num_batched_tokens": 512, "max_model_len": 4096, "num_blocks": 2000}
    made = EmulatedSettings(
        **{
            "model": MODEL,
            "step_cost": {"overhead": 0.002},
            "engine": engine,
            "control_port": control_port,
            **settings,
        }
    )
    application = emulated_application(made)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            application, log_level="critical", access_log=False, ws="none", timeout_graceful_shutdown=1
        )
        server = application.state.server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.002)
        async with aiohttp.ClientSession() as client:
            control = f"http://127.0.0.1:{control_port}"
            yield Running(client, f"http://127.0.0.1:{port}", control, application.state.worker)
        server.should_exit = True
        await asyncio.wait_for(task, 5)


@pytest.fixture
async def emulated() -> AsyncIterator[Callable[..., Awaitable[Running]]]:
    """Start workers: `await emulated(persona="trt")`."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Running:
            return await stack.enter_async_context(running(**settings))

        yield start


@pytest.fixture
def until() -> Callable[..., Awaitable[float]]:
    """`await until(lambda: ...)`: wait until something holds; tell how long it took."""

    async def wait(holds: Callable[[], bool], seconds: float = 3.0) -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not holds():
            assert loop.time() - began < seconds, "it never came to hold"
            await asyncio.sleep(0.001)
        return loop.time() - began

    return wait
