"""CPU time of gateway and router per request and per stream, beside relays in 20 lines and nginx.

`python -m e2e.bench.serving [REQUESTS [ROUNDS]]`. Microseconds of the processes under test, user and system, as the
scheduler counts them; medians of interleaved rounds, with the ratio to the FastAPI floor of the same run. One back end;
a stream has 50 chunks, made at once or a millisecond apart. Everything is on: keys, limits, validation, access log. All
processes share one core: between two, waking the other one is a good part of what a request costs, and of what varies.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import orjson

from e2e.rungs.processes import Crew, Process

KEY = "wt-bench"
CONCURRENCY = 8
PEERS = "e2e.bench.peers"
BODY = {"model": "m", "messages": [{"role": "user", "content": "how does lift come about, in one sentence"}]}

STREAM = {"stream": True, "stream_options": {"include_usage": True}}
KINDS: dict[str, dict[str, Any]] = {"request": {}, "stream": STREAM, "paced": {**STREAM, "user": "paced"}}


def add_servers(crew: Crew) -> tuple[list[Process], dict[str, list[Process]]]:
    """Work out all processes, and which of them are measured under which name."""
    keys = [{"sha256": sha256(KEY.encode()).hexdigest(), "tenant": "bench"}]
    limits = {"bench": {"requests_per_second": 1e6, "tokens_per_second": 1e9, "concurrency": 10_000}}
    backend = crew.add("backend", PEERS, {"kind": "backend"}, ready_path="/health")
    kinds = ["fastapi", "asgi", *(["nginx"] if shutil.which("nginx") else [])]
    peers = [crew.add(kind, PEERS, {"kind": kind, "upstream": backend.url}, ready_path="/readyz") for kind in kinds]
    pool = {"model": "m", "endpoints": [{"name": "backend", "url": backend.url}], "policy": "least_in_flight"}
    router = crew.add("router", "reference.router", {"pools": [pool]}, ready_path="/readyz")
    common = {"keys": keys, "limits": limits, "access_log": str(crew.directory / "access.jsonl")}
    alone = crew.add("gateway", "reference.gateway", {"router_url": backend.url, **common}, ready_path="/healthz")
    first = crew.add("chain", "reference.gateway", {"router_url": router.url, **common}, ready_path="/readyz")
    measured = {peer.name: [peer] for peer in peers}
    measured |= {"gateway": [alone], "router": [router], "chain": [first, router]}
    return [backend, *peers, router, alone, first], measured


def cpu_seconds(process: Process) -> float:
    """Return the processor time that a process and its children have used."""
    assert process.handle is not None
    pid = process.handle.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    threads = [path for one in (pid, *children) for path in Path(f"/proc/{one}/task").iterdir()]
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


async def load(url: str, count: int, kind: str) -> None:
    """Ask `count` times, a few at once, and read every answer whole."""
    stream = kind != "request"
    raw = orjson.dumps(BODY | KINDS[kind])
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    left = iter(range(count))

    async def client(session: aiohttp.ClientSession) -> None:
        for _ in left:
            async with session.post(f"{url}/v1/chat/completions", data=raw, headers=headers) as answer:
                told = await answer.read()
                if answer.status != 200 or (stream and b"[DONE]" not in told):
                    raise RuntimeError(f"{url}: {answer.status} {told[-300:]!r}")

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(client(session) for _ in range(CONCURRENCY)))


def rounds(measured: dict[str, list[Process]], num_rounds: int, count: int) -> Iterator[tuple[str, str, float]]:
    """Give (name, kind, microseconds of CPU per request), interleaved."""
    for _ in range(num_rounds):
        for kind in KINDS:
            for name, processes in measured.items():
                asked = max(1, count if kind == "request" else count // 4)
                before = sum(map(cpu_seconds, processes))
                asyncio.run(load(processes[0].url, asked, kind))
                yield name, kind, (sum(map(cpu_seconds, processes)) - before) / asked * 1e6


def main(count: int = 2000, num_rounds: int = 5) -> None:
    """Print the table."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as scratch, Crew(Path(scratch)) as crew:
        processes, measured = add_servers(crew)
        for process in processes:
            crew.start(process)
        crew.wait_until_ready(processes)
        for _ in rounds(measured, 1, 400):
            pass
        found: dict[tuple[str, str], list[float]] = {}
        for name, kind, microseconds in rounds(measured, num_rounds, count):
            found.setdefault((name, kind), []).append(microseconds)
    print(f"{'CPU µs':10}" + "".join(f" {kind:>9} {'× floor':>8}" for kind in KINDS))
    for name in measured:
        cells = [(median(found[name, kind]), median(found["fastapi", kind])) for kind in KINDS]
        print(f"{name:10}" + "".join(f" {own:9.0f} {own / floor:8.2f}" for own, floor in cells))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
