"""A worker as a process: SIGTERM in order, `kill -9` without leaving anything, exit codes that a pod can act on."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp

from reference.worker.supervised import leash


async def until_ready(worker: Any, client: aiohttp.ClientSession) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            async with client.get(f"{worker.url}/readyz") as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            assert worker.handle.poll() is None, worker.handle.stderr.read()
        assert time.monotonic() < deadline, "the worker was not ready in 30 s"
        await asyncio.sleep(0.05)


async def ended(worker: Any, seconds: float = 15.0) -> int:
    deadline = time.monotonic() + seconds
    while (code := worker.handle.poll()) is None:
        assert time.monotonic() < deadline, f"the worker had not ended after {seconds:g} s"
        await asyncio.sleep(0.02)
    return int(code)


def stream(worker: Any, client: aiohttp.ClientSession, max_tokens: int) -> Any:
    body = {"model": "m", "prompt": "hello", "stream": True, "max_tokens": max_tokens}
    return client.post(f"{worker.url}/v1/completions", json=body)


def leashes(worker: Any) -> set[int]:
    """The pids of this worker's leashes: others may run beside it."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"\nPPid:\t{worker.handle.pid}\n" in (path / "status").read_text()
            if ours and Path(leash.__file__).name.encode() in (path / "cmdline").read_bytes():
                found.add(int(path.name))
        except OSError:
            continue
    return found


def runs(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody has fetched does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


async def test_sigterm_withdraws_readiness_lets_streams_finish_and_exits_with_0(launch: Any) -> None:
    worker = launch(drain_seconds=0.5, shutdown_seconds=10)
    async with aiohttp.ClientSession() as client:
        await until_ready(worker, client)
        async with stream(worker, client, 60) as answer:
            await answer.content.readany()
            worker.handle.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.2)
            async with client.get(f"{worker.url}/readyz") as readiness:
                assert readiness.status == 503
            rest = (await answer.read()).decode()

    assert '"finish_reason": "length"' in rest
    assert rest.endswith("data: [DONE]\n\n")
    assert await ended(worker) == 0


async def test_a_stream_that_outlasts_the_deadline_ends_with_a_typed_error_and_not_with_the_engines_abort(
    launch: Any,
) -> None:
    worker = launch(shutdown_seconds=1)
    async with aiohttp.ClientSession() as client:
        await until_ready(worker, client)
        (pid,) = leashes(worker)
        async with stream(worker, client, 10_000) as answer:
            await answer.content.readany()
            worker.handle.send_signal(signal.SIGTERM)
            rest = (await answer.read()).decode()

    assert '"code":"upstream_lost"' in rest
    assert "abort" not in rest
    assert "[DONE]" not in rest
    assert await ended(worker) == 0
    assert not runs(pid)


async def test_kill_9_leaves_no_engine_behind(launch: Any, tmp_path: Path) -> None:
    helper = tmp_path / "helper"
    worker = launch(environment={"ENGINE_HELPER": str(helper)})
    async with aiohttp.ClientSession() as client:
        await until_ready(worker, client)
    pids = {int(helper.read_text()), *leashes(worker)}
    assert len(pids) == 2

    worker.handle.kill()
    deadline = time.monotonic() + 5
    while any(runs(pid) for pid in pids):
        assert time.monotonic() < deadline, "an engine was left behind"
        await asyncio.sleep(0.02)


async def test_a_program_that_is_not_there_ends_the_worker_with_code_4_after_its_restarts(launch: Any) -> None:
    worker = launch(python="/nowhere/python", max_restarts=1)

    assert await ended(worker) == 4
    told = worker.handle.stderr.read()
    assert "/nowhere/python: cannot be started: No such file or directory" in told
    assert "vllm ended with code 127" in told


async def test_a_setting_that_is_wrong_is_one_line_and_code_2(launch: Any) -> None:
    worker = launch(max_restarts=-1)

    assert await ended(worker) == 2
    told = worker.handle.stderr.read().strip().splitlines()[-1]
    assert "max_restarts: Input should be greater than or equal to 0 (got -1)" in told
