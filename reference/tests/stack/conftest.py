"""The real servers on real sockets, inside the test's own event loop: what is asserted can be looked at directly."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import uvicorn
from fastapi import FastAPI

from reference.gateway.server import Gateway, gateway_application
from reference.gateway.settings import GatewaySettings
from reference.router.server import Router, router_application
from reference.router.settings import RouterSettings
from reference.wire.http_server import CallRoutes
from reference.wire.serving import server_config
from reference.worker.emulated.server import EmulatedSettings, EmulatedWorker, emulated_application

MODEL = "tiny"
KEY = "wt-red-secret"
STEP_COST = {"overhead": 0.002}
ENGINE = {"max_num_seqs": 8, "max_num_batched_tokens": 512, "max_model_len": 4096, "num_blocks": 2000}


@asynccontextmanager
async def serving(application: FastAPI, port: int = 0) -> AsyncIterator[str]:
    """Serve an application on loopback; yields its URL."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        routes = getattr(application, "routes", None)
        calls = routes if isinstance(routes, CallRoutes) else None
        config = server_config(application, calls, log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.002)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await asyncio.wait_for(task, 5)


@dataclass
class Chain:
    """Gateway, router and workers as they run, and a client of them."""

    client: aiohttp.ClientSession
    gateway: str = ""
    router: str = ""
    workers: list[str] = field(default_factory=list)
    engines: list[EmulatedWorker] = field(default_factory=list)
    routing: Router | None = None
    serving_gateway: Gateway | None = None
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def body(self, **more: Any) -> dict[str, Any]:
        """Return a chat completion of eight tokens, with fields over it."""
        messages = [{"role": "user", "content": "how does lift come about"}]
        return {"model": MODEL, "messages": messages, "max_tokens": 8, "ignore_eos": True, **more}

    def headers(self, **more: str) -> dict[str, str]:
        """Return the headers of a request with a valid key, with others over them."""
        named = {name.replace("_", "-"): value for name, value in more.items()}
        return {"authorization": f"Bearer {KEY}", **named}

    def ask(self, path: str = "/v1/chat/completions", headers: dict[str, str] | None = None, **body: Any) -> Any:
        """Post a chat completion to the gateway; an async context manager of the response."""
        return self.client.post(self.gateway + path, json=self.body(**body), headers=self.headers(**(headers or {})))

    async def fault(self, worker: int, **faults: Any) -> None:
        """Set faults of one worker."""
        async with self.client.post(f"{self.workers[worker]}/control/faults", json=faults) as answer:
            assert answer.status == 200, await answer.text()

    @property
    def num_running(self) -> int:
        """Sequences that hold a seat or wait for one, over all workers."""
        return sum(worker.loop.engine.num_running + worker.loop.engine.num_waiting for worker in self.engines)


@pytest.fixture
def until() -> Callable[..., Awaitable[float]]:
    """`await until(lambda: ...)`: wait until something holds."""
    return _until


async def _until(holds: Callable[[], bool], seconds: float = 2.0) -> float:
    """Wait until something holds; return how long it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not holds():
        assert loop.time() - began < seconds, "it never came to hold"
        await asyncio.sleep(0.001)
    return loop.time() - began


Build = Callable[..., Awaitable[Chain]]


@asynccontextmanager
async def builder() -> AsyncIterator[Build]:
    """Give a function that makes chains, which end together."""
    async with AsyncExitStack() as stack:

        async def make(
            workers: int = 1,
            *,
            router: dict[str, Any] | None = None,
            gateway: dict[str, Any] | None = None,
            pool: dict[str, Any] | None = None,
            worker: dict[str, Any] | None = None,
            strange: FastAPI | None = None,
            listed: bool = True,
        ) -> Chain:
            client = await stack.enter_async_context(aiohttp.ClientSession())
            chain = Chain(client, stack=stack)
            if strange is not None:
                workers = 1
                chain.workers.append(await stack.enter_async_context(serving(strange)))
            for _ in range(0 if strange is not None else workers):
                settings = {"model": MODEL, "step_cost": STEP_COST, "engine": ENGINE, "control": True, **(worker or {})}
                application = emulated_application(EmulatedSettings(**settings))
                chain.engines.append(application.state.worker)
                chain.workers.append(await stack.enter_async_context(serving(application)))
            endpoints = [{"name": f"vllm-{place}", "url": url} for place, url in enumerate(chain.workers)]
            block = {"model": MODEL, "endpoints": endpoints if listed else [], **(pool or {})}
            routing = router_application(
                RouterSettings(
                    pools=[block], **{"health_interval_seconds": 0.2, "decision_header": "always", **(router or {})}
                )  # type: ignore[arg-type]
            )
            chain.routing = routing.state.router
            chain.router = await stack.enter_async_context(serving(routing))
            key = {"sha256": sha256(KEY.encode()).hexdigest(), "tenant": "red"}
            settings = {"router_url": chain.router, "keys": [key], "access_log": "", **(gateway or {})}
            front = gateway_application(GatewaySettings(**settings))
            chain.serving_gateway = front.state.gateway
            chain.gateway = await stack.enter_async_context(serving(front))
            pools = chain.routing.desks[MODEL].pool
            await _until(lambda: len(pools.endpoints) == (workers if listed else 0))
            return chain

        yield make


@pytest.fixture
async def build() -> AsyncIterator[Build]:
    """Make chains: `await build(workers=2, router={...}, pool={...})`; `strange` is a worker of one's own."""
    async with builder() as make:
        yield make


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_chain() -> AsyncIterator[Chain]:
    """One chain for all tests of a module that leave it as it was; they run in the module's event loop."""
    async with builder() as make:
        yield await make()
