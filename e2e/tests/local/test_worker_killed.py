"""SIGKILL to one of two workers under load: what clients see of it, and how soon it is back once it is started."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from e2e.rungs.processes import Crew, Process, state_of

MODEL = "tiny"
HEALTH_SECONDS = 1.0
WORKER = {"model": MODEL, "step_cost": {"overhead": 0.005}, "engine": {"max_num_seqs": 64, "num_blocks": 4000}}
RATE = 25.0


@dataclass
class Seen:
    """What one client saw."""

    began: float
    ended: float
    status: int
    text: str
    endpoint: str

    @property
    def is_whole(self) -> bool:
        return self.status == 200 and self.text.endswith("data: [DONE]\n\n")

    @property
    def error(self) -> dict[str, str] | None:
        """The typed error that a stream ended in, if it did."""
        last = self.text.strip().rpartition("\n\n")[2].removeprefix("data: ")
        return json.loads(last).get("error") if last.startswith("{") else None


def test_a_killed_worker_costs_what_was_in_flight_to_it_and_nothing_else(tmp_path: Path) -> None:
    with Crew(tmp_path) as crew:
        workers = [crew.add(f"worker-{number}", "reference.worker.emulated", WORKER) for number in range(2)]
        endpoints = [{"name": worker.name, "url": worker.url} for worker in workers]
        routing = {
            "pools": [{"model": MODEL, "endpoints": endpoints}],
            "health_interval_seconds": HEALTH_SECONDS,
            "decision_header": "always",
        }
        router = crew.add("router", "reference.router", routing, ready_path="/readyz")
        for process in (*workers, router):
            crew.start(process)
        crew.wait_until_ready([*workers, router])

        seen, killed_at, ready_at = asyncio.run(fly(crew, router, workers[0]))

    in_flight = [one for one in seen if one.began < killed_at < one.ended]
    new = [one for one in seen if one.began >= killed_at]
    lost = [one for one in in_flight if not one.is_whole]
    assert len(new) > 100
    assert [one for one in new if not one.is_whole] == []
    assert lost, "nothing was in flight to it: the test has seen nothing"
    assert {one.endpoint for one in lost} == {"worker-0"}
    for one in lost:
        assert one.error is not None
        assert (one.error["type"], one.error["code"]) == ("server_error", "upstream_lost")
    back_at = min(one.began for one in new if one.began > ready_at and one.endpoint == "worker-0")
    assert back_at - ready_at <= 2 * HEALTH_SECONDS


async def fly(crew: Crew, router: Process, victim: Process) -> tuple[list[Seen], float, float]:
    """Send requests at a rate; kill the victim after two seconds, start it after four, stop when it has been back."""
    asked: list[asyncio.Task[Seen]] = []
    killed_at = ready_at = 0.0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        began = time.monotonic()
        number = 0
        while not ready_at or time.monotonic() < ready_at + 3 * HEALTH_SECONDS:
            asked.append(asyncio.create_task(ask(client, router.url)))
            number += 1
            await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
            if not killed_at and number == 2 * RATE:
                killed_at = time.monotonic()
                assert victim.handle is not None
                os.kill(victim.handle.pid, signal.SIGKILL)
            if number == 4 * RATE:
                await asyncio.to_thread(crew.kill, victim)
                await asyncio.to_thread(crew.start, victim)
            if number > 4 * RATE and not ready_at and await asyncio.to_thread(state_of, victim) == "ready":
                ready_at = time.monotonic()
            assert number < 60 * RATE, "it never came back"
        return [*await asyncio.gather(*asked)], killed_at, ready_at


async def ask(client: aiohttp.ClientSession, url: str) -> Seen:
    body = {"model": MODEL, "stream": True, "max_tokens": 60, "ignore_eos": True}
    body["messages"] = [{"role": "user", "content": "how does lift come about"}]
    began = time.monotonic()
    async with client.post(f"{url}/v1/chat/completions", json=body) as answer:
        text = await answer.text()
        endpoint = answer.headers.get("x-windtunnel-decision", "").partition(";")[0].removeprefix("endpoint=")
        return Seen(began, time.monotonic(), answer.status, text, endpoint)
