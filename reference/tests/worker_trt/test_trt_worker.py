"""The trt worker against a program that answers on `trtllm-serve`'s documented wire."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn

from reference.router.signals import read_observation
from reference.wire.serving import server_config
from reference.worker.ending import Ending
from reference.worker.supervised.server import supervised_application
from reference.worker.trt.recipe import TrtSettings, trt_recipe

SCRIPT = Path(__file__).with_name("trtllm_serve.py")


class QuietEnding(Ending):
    """An ending that ends nothing."""

    def on_signal(self, hear: Callable[[], None]) -> None:
        pass


class Client:
    """Asks a trt worker, and the program behind it for the truth."""

    def __init__(self, session: aiohttp.ClientSession, url: str, worker: Any) -> None:
        self.session = session
        self.url = url
        self.worker = worker

    def ask(self, **more: Any) -> Any:
        body = {"model": "m", "prompt": "hello", "max_tokens": 10, **more}
        return self.session.post(f"{self.url}/v1/completions", json=body)

    async def page(self) -> str:
        async with self.session.get(f"{self.url}/metrics") as answer:
            return await answer.text()

    async def truth(self) -> dict[str, Any]:
        async with self.session.get(f"{self.worker.supervisor.url}/truth") as answer:
            found: dict[str, Any] = await answer.json()
        return found


@pytest.fixture
async def trt(tmp_path: Path) -> AsyncIterator[Client]:
    program = tmp_path / "trtllm-serve"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{SCRIPT}" "$@"\n')
    program.chmod(0o755)
    settings = TrtSettings(
        model="m", model_dir="engine", program=str(program), tp_size=2, options={"dtype": "bfloat16"}
    )
    application = supervised_application(trt_recipe(settings), settings, QuietEnding())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = server_config(application, application.routes, log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        worker = application.state.worker
        deadline = time.monotonic() + 15
        while not (server.started and worker.supervisor.takes_requests):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        async with aiohttp.ClientSession() as session:
            yield Client(session, f"http://127.0.0.1:{listener.getsockname()[1]}", worker)
        server.should_exit = True
        await asyncio.wait_for(task, 30)


def value(page: str, name: str) -> float:
    found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", page, re.MULTILINE)
    assert len(found) == 1, f"{name} is there {len(found)} times"
    return float(found[0])


async def test_it_is_started_as_documented_with_the_options_that_make_it_tell_its_metrics(trt: Client) -> None:
    truth = await trt.truth()

    assert truth["argv"][1:9] == [
        "engine",
        "--served_model_name",
        "m",
        "--host",
        "127.0.0.1",
        "--port",
        truth["argv"][7],
        "--tp_size",
    ]
    assert truth["argv"][9] == "2"
    assert truth["options"] == {"enable_iter_perf_stats": True, "return_perf_metrics": True, "dtype": "bfloat16"}


async def test_every_iteration_is_counted_however_many_scrape_the_worker(trt: Client) -> None:
    async with trt.ask(stream=True, max_tokens=90) as answer:
        while await answer.content.readline():
            await asyncio.gather(trt.page(), trt.page())
    deadline = time.monotonic() + 5
    while True:
        truth, page = await trt.truth(), await trt.page()
        if value(page, "trtllm_iterations_total") == truth["iterations"]:
            break
        assert time.monotonic() < deadline, f"{truth['iterations']} iterations, and the page counts fewer"
        await asyncio.sleep(0.1)

    assert value(page, "trtllm_iteration_generation_tokens_total") == truth["tokens"]
    assert value(page, "trtllm_iteration_context_tokens_total") == 4 * truth["iterations"]
    assert value(page, "trtllm_iteration_seconds_total") == pytest.approx(0.02 * truth["iterations"])
    assert len(truth["reads"]) < 15, "the worker reads once an interval, not once a scrape"


async def test_the_engines_own_page_goes_before_what_is_counted_and_nothing_is_said_twice(trt: Client) -> None:
    async with trt.ask(stream=True, max_tokens=120) as answer:
        await answer.content.readline()
        deadline = time.monotonic() + 5
        while "trtllm_num_requests_running" not in (page := await trt.page()):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        observation = read_observation(page.encode(), 0.0)
        answer.close()

    assert value(page, "trtllm_kv_cache_utilization") == 0.5
    assert value(page, "trtllm_kv_cache_used_blocks") == 25
    assert observation is not None
    assert (observation.running, observation.queue_depth, observation.kv_usage) == (1, 3, 0.5)


async def test_an_idle_engine_is_seen_to_be_idle_though_it_says_nothing_new(trt: Client) -> None:
    async with trt.ask(max_tokens=5) as answer:
        assert answer.status == 200
    deadline = time.monotonic() + 5
    while True:
        page = await trt.page()
        if "trtllm_num_requests_running" in page and value(page, "trtllm_num_requests_running") == 0:
            return
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("more", "told"),
    [({"max_tokens": 2000}, "max_tokens is too large"), ({"max_tokens": "many"}, "1 validation error: max_tokens")],
)
async def test_both_shapes_of_its_errors_become_openais(trt: Client, more: dict[str, Any], told: str) -> None:
    async with trt.ask(**more) as answer:
        error = (await answer.json())["error"]

    assert answer.status == 400
    assert error == {"message": told, "type": "invalid_request_error", "param": None, "code": None}
