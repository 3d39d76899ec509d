"""CPU time of gateway and router per request and per stream, beside a relay in 20 lines: `python -m e2e.bench.serving`.

Microseconds of the process under test, user and system, as the kernel counts them; medians of interleaved rounds, with
the ratio to the floor of the same run. One back end that answers at once; a stream has 50 chunks.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from e2e.rungs.processes import Crew, Process

KEY = "wt-bench"
CONCURRENCY = 8
BODY = {"model": "m", "messages": [{"role": "user", "content": "how does lift come about, in one sentence"}]}


def add_servers(crew: Crew) -> tuple[list[Process], dict[str, list[Process]]]:
    """Work out all processes, and which of them are measured under which name."""
    keys = [{"sha256": sha256(KEY.encode()).hexdigest(), "tenant": "bench"}]
    limits = {"bench": {"requests_per_second": 1e6, "tokens_per_second": 1e9, "concurrency": 10_000}}
    backend = crew.add("backend", "e2e.bench.peers", {}, ready_path="/health")
    floor = crew.add("floor", "e2e.bench.peers", {"upstream": backend.url}, ready_path="/readyz")
    pool = {"model": "m", "endpoints": [{"name": "backend", "url": backend.url}], "policy": "least_in_flight"}
    router = crew.add("router", "reference.router", {"pools": [pool]}, ready_path="/readyz")
    common = {"keys": keys, "limits": limits, "access_log": str(crew.directory / "access.jsonl")}
    alone = crew.add("gateway", "reference.gateway", {"router_url": backend.url, **common}, ready_path="/healthz")
    first = crew.add("chain", "reference.gateway", {"router_url": router.url, **common}, ready_path="/readyz")
    measured = {"floor": [floor], "gateway": [alone], "router": [router], "chain": [first, router]}
    return [backend, floor, router, alone, first], measured


def cpu_seconds(process: Process) -> float:
    """Return the processor time that a process has used."""
    assert process.handle is not None
    fields = Path(f"/proc/{process.handle.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def load(url: str, count: int, *, stream: bool) -> None:
    """Ask `count` times, a few at once, and read every answer whole."""
    body: dict[str, Any] = BODY | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {})
    import orjson

    raw = orjson.dumps(body)
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
        for kind, stream, share in (("request", False, 1.0), ("stream", True, 0.25)):
            for name, processes in measured.items():
                asked = max(1, int(count * share))
                before = sum(map(cpu_seconds, processes))
                asyncio.run(load(processes[0].url, asked, stream=stream))
                yield name, kind, (sum(map(cpu_seconds, processes)) - before) / asked * 1e6


def main(count: int = 3000, num_rounds: int = 5) -> None:
    """Print the table."""
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
    print(f"{'CPU µs':10} {'request':>9} {'× floor':>8} {'stream':>9} {'× floor':>8}")
    for name in measured:
        row = [median(found[name, kind]) for kind in ("request", "stream")]
        ratios = [median(found[name, kind]) / median(found["floor", kind]) for kind in ("request", "stream")]
        print(f"{name:10} {row[0]:9.0f} {ratios[0]:8.2f} {row[1]:9.0f} {ratios[1]:8.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
