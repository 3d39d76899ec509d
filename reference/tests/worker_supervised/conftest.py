"""A vllm worker around a program that speaks as vLLM does: in the test's event loop, or as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn

from reference.wire.serving import server_config
from reference.worker.ending import Ending
from reference.worker.supervised.child import free_port
from reference.worker.supervised.server import SupervisedWorker, supervised_application
from reference.worker.vllm.recipe import VllmSettings, vllm_recipe

SCRIPT = Path(__file__).with_name("engine_script.py")
QUICK = {
    "model": "m",
    "model_dir": "weights",
    "health_interval_seconds": 0.1,
    "restart_base_seconds": 0.05,
    "stop_seconds": 1.0,
}


class RecordedEnding(Ending):
    """An ending that ends nothing."""

    def because(self, code: int) -> None:
        self.code = code

    def on_signal(self, hear: Callable[[], None]) -> None:
        self.hear = hear


@dataclass
class Running:
    """A worker under test."""

    url: str
    worker: SupervisedWorker
    ending: Ending
    client: aiohttp.ClientSession

    def ask(self, **more: Any) -> Any:
        body = {"model": "m", "prompt": "hello", "max_tokens": 3, **more}
        return self.client.post(f"{self.url}/v1/completions", json=body)

    async def status(self, path: str) -> int:
        async with self.client.get(self.url + path) as answer:
            return answer.status

    async def text(self, path: str) -> str:
        async with self.client.get(self.url + path) as answer:
            return await answer.text()

    async def until(self, holds: Callable[[], bool], seconds: float = 15.0) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while not holds():
            assert asyncio.get_running_loop().time() < deadline, f"the engine is {self.worker.supervisor.state}"
            await asyncio.sleep(0.01)

    async def until_ready(self) -> None:
        await self.until(lambda: self.worker.supervisor.state.value == "ready")


@pytest.fixture
def python(tmp_path: Path) -> str:
    """A program that takes `-m vllm… --port …` and runs the script."""
    path = tmp_path / "python"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{SCRIPT}" "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture
async def start(python: str) -> AsyncIterator[Callable[..., Any]]:
    """Start a worker here: `await start(environment={...}, ...)` with settings."""
    async with AsyncExitStack() as stack:

        async def make(**settings: Any) -> Running:
            chosen = VllmSettings(**{**QUICK, "python": python, **settings})
            ending = RecordedEnding()
            application = supervised_application(vllm_recipe(chosen), chosen, ending)
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            config = server_config(application, application.routes, log_level="error", timeout_graceful_shutdown=1)
            server = uvicorn.Server(config)
            task = asyncio.create_task(server.serve(sockets=[listener]))

            async def stop() -> None:
                server.should_exit = True
                await asyncio.wait_for(task, 10)

            stack.push_async_callback(stop)
            while not server.started:
                await asyncio.sleep(0.005)
            client = await stack.enter_async_context(aiohttp.ClientSession())
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            return Running(url, application.state.worker, ending, client)

        yield make


@dataclass
class OwnProcess:
    """A worker as a process of its own."""

    url: str
    handle: subprocess.Popen[str]
    config: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def launch(python: str, tmp_path: Path) -> Iterator[Callable[..., OwnProcess]]:
    """Start a worker as a process: `launch(environment={...}, ...)` with settings."""
    started: list[subprocess.Popen[str]] = []

    def run(**settings: Any) -> OwnProcess:
        port = free_port()
        config = {**QUICK, "python": python, "port": port, **settings}
        path = tmp_path / "worker.json"
        path.write_text(json.dumps(config))
        command = [sys.executable, "-m", "reference.worker.vllm", "--config", str(path)]
        handle = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
        started.append(handle)
        return OwnProcess(f"http://127.0.0.1:{port}", handle, config)

    yield run
    for handle in started:
        if handle.poll() is None:
            handle.kill()
        handle.communicate(timeout=10)
