"""An engine's life around its worker: ready after a real token, relayed, lost, hung, started again, given up."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

STREAM = {"stream": True, "max_tokens": 5}


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def test_a_healthy_engine_is_not_ready_until_it_has_computed_a_token(start: Any) -> None:
    running = await start(environment={"ENGINE_TOKEN_AFTER": "1.2"})
    supervisor = running.worker.supervisor
    began = time.monotonic()

    while time.monotonic() - began < 1.0:
        assert await running.status("/healthz") == 200
        assert await running.status("/readyz") == await running.status("/health") == 503
        async with running.ask() as early:
            assert (early.status, (await early.json())["error"]["code"]) == (503, "not_ready")
            assert early.headers["retry-after"] == "1"
    await running.until_ready()

    assert supervisor.seconds_to_ready > 1.0
    assert await running.status("/readyz") == 200
    async with running.ask() as answer:
        assert answer.status == 200


async def test_a_stream_comes_through_unchanged(start: Any) -> None:
    running = await start()
    await running.until_ready()
    async with running.ask(**STREAM) as ours:
        through = await ours.read()
    async with running.client.post(
        f"{running.worker.supervisor.url}/v1/completions", json={"model": "m", "prompt": "hello", **STREAM}
    ) as theirs:
        assert through == await theirs.read()

    assert through.endswith(b"data: [DONE]\n\n")
    assert ours.headers["x-request-id"].startswith("req-")


@pytest.mark.parametrize(
    ("more", "status", "kind", "code"),
    [
        ({"model": "other"}, 404, "not_found_error", None),
        ({"user": "stranger"}, 401, "authentication_error", None),
    ],
)
async def test_the_engines_errors_become_openais(
    start: Any, more: dict[str, Any], status: int, kind: str, code: str | None
) -> None:
    running = await start()
    await running.until_ready()

    async with running.ask(**more) as answer:
        error = (await answer.json())["error"]

    assert answer.status == status
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == (kind, code)


async def test_a_client_that_leaves_frees_the_engines_seat(start: Any) -> None:
    running = await start()
    await running.until_ready()

    async with running.ask(stream=True, max_tokens=10_000) as answer:
        await answer.content.readany()
        assert "vllm:num_requests_running 1\n" in await running.text("/metrics")
    left_at = time.monotonic()
    while "vllm:num_requests_running 0\n" not in await running.text("/metrics"):
        assert time.monotonic() - left_at < 2.0

    assert 'status="499"' in await running.text("/metrics")
    assert not running.worker.flying


async def test_a_killed_engine_ends_its_streams_with_a_typed_error_and_is_started_again(start: Any) -> None:
    running = await start()
    await running.until_ready()
    supervisor = running.worker.supervisor

    async with running.ask(stream=True, max_tokens=10_000) as answer:
        await answer.content.readany()
        os.killpg(supervisor.pid, signal.SIGKILL)
        rest = (await answer.read()).decode()
    assert '"code":"upstream_lost"' in rest
    assert "finish_reason" not in rest.rpartition("data: ")[2]
    assert "[DONE]" not in rest

    await running.until(lambda: supervisor.num_starts == 2)
    await running.until_ready()
    async with running.ask() as again:
        assert again.status == 200


async def test_an_engine_that_hangs_is_killed_and_started_again(start: Any) -> None:
    running = await start(environment={"ENGINE_HANGS_AFTER": "1.5"}, hang_seconds=0.5, health_interval_seconds=0.05)
    await running.until_ready()
    first = running.worker.supervisor.pid

    await running.until(lambda: running.worker.supervisor.num_starts >= 2, 20.0)

    assert not is_alive(first)


async def test_an_engine_that_keeps_dying_is_given_up_with_a_code_of_its_own(start: Any) -> None:
    running = await start(environment={"ENGINE_DIES_AFTER": "0.1"}, max_restarts=2)

    await running.until(lambda: running.worker.supervisor.state.value == "given up")

    assert running.ending.code == 4
    assert running.worker.supervisor.num_starts == 3
    assert await running.status("/readyz") == 503
    page = await running.text("/metrics")
    assert 'windtunnel_worker_engine_state{engine="vllm",state="given up"} 1.0' in page
    assert 'windtunnel_worker_engine_starts_total{engine="vllm"} 3.0' in page


async def test_an_engine_that_never_computes_is_started_again(start: Any) -> None:
    running = await start(environment={"ENGINE_TOKEN_AFTER": "600"}, start_seconds=0.8, max_restarts=0)

    await running.until(lambda: running.worker.supervisor.state.value == "given up")

    assert running.ending.code == 4


async def test_an_engine_that_will_not_end_is_killed_with_all_that_it_has_started(start: Any, tmp_path: Path) -> None:
    helper = tmp_path / "helper"
    running = await start(environment={"ENGINE_IGNORES_SIGTERM": "1", "ENGINE_HELPER": str(helper)}, stop_seconds=0.3)
    await running.until_ready()
    supervisor, pid = running.worker.supervisor, int(helper.read_text())
    assert is_alive(pid)

    began = time.monotonic()
    await supervisor.stop()

    assert 0.3 <= time.monotonic() - began < 3.0
    while is_alive(pid):
        assert time.monotonic() - began < 3.0
        await asyncio.sleep(0.01)
    assert supervisor.state.value == "stopped"


async def test_the_metrics_page_is_the_engines_with_ours_after_it(start: Any) -> None:
    running = await start()
    await running.until_ready()
    async with running.ask(**STREAM) as answer:
        await answer.read()

    page = await running.text("/metrics")

    assert page.startswith("vllm:num_requests_running 0\n")
    for line in (
        'windtunnel_worker_requests_total{path="/v1/completions",status="200"} 1.0',
        'windtunnel_worker_first_byte_seconds_count{path="/v1/completions"} 1.0',
        'windtunnel_worker_engine_state{engine="vllm",state="ready"} 1.0',
        "windtunnel_worker_in_flight 0.0",
    ):
        assert line in page


async def test_models_are_the_engines_own(start: Any) -> None:
    running = await start()
    await running.until_ready()

    assert '"id": "m"' in await running.text("/v1/models")
    assert await running.status("/nowhere") == 404
