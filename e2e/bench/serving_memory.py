"""How much memory gateway and router keep of a request: bytes of resident memory over 50,000, a fifth left early.

`python -m e2e.bench.serving_memory [REQUESTS]`. Through the chain of both, with everything on. A client leaves before
the first byte, or in the middle of a stream. The slope is that of a line through samples of the resident set. As many
requests again are flown before and not counted: until then the allocator's pools grow, and after that they do not.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import orjson

from e2e.bench.serving import BODY, KEY, STREAM, add_servers
from e2e.rungs.processes import Crew, Process

CONCURRENCY = 16
NUM_SAMPLES = 50
LEFT_EARLY = 5
"""One request in so many is left by its client."""


def resident_bytes(process: Process) -> int:
    """Return what a process holds in memory now."""
    assert process.handle is not None
    status = Path(f"/proc/{process.handle.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


async def one(url: str, number: int) -> None:
    """Ask once on a connection of its own; every fifth client leaves, every other of those in a stream."""
    leaves = number % LEFT_EARLY == 0
    is_stream = number % 2 == 0
    raw = orjson.dumps(BODY | ({**STREAM, "user": "paced"} if is_stream else {}))
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n"
    )
    writer.write(head.encode() + raw)
    if leaves and is_stream:
        await reader.read(100)
    elif not leaves:
        told = await reader.read()
        if b" 200 OK" not in told[:20]:
            raise RuntimeError(f"{url}: {told[:300]!r}")
    writer.transport.abort() if leaves else writer.close()


async def load(url: str, first: int, count: int) -> None:
    """Ask `count` times, a few at once."""
    left = iter(range(first, first + count))

    async def client() -> None:
        for number in left:
            await one(url, number)

    await asyncio.gather(*(client() for _ in range(CONCURRENCY)))


def main(count: int = 50_000) -> None:
    """Print bytes a request of each process."""
    with tempfile.TemporaryDirectory() as scratch, Crew(Path(scratch)) as crew:
        processes, measured = add_servers(crew)
        chain = measured["chain"]
        needed = [process for process in processes if process.name in ("backend", "router", "chain")]
        for process in needed:
            crew.start(process)
        crew.wait_until_ready(needed)
        asyncio.run(load(chain[0].url, 0, count))
        step = count // NUM_SAMPLES
        samples = []
        for sample in range(NUM_SAMPLES):
            asyncio.run(load(chain[0].url, sample * step, step))
            samples.append([resident_bytes(process) for process in chain])
    asked = step * np.arange(1, NUM_SAMPLES + 1)
    print(f"{'':10} {'MB at the end':>14} {'bytes a request':>16}")
    for name, held in zip(("gateway", "router"), np.array(samples, dtype=float).T, strict=True):
        slope = float(np.polyfit(asked, held, 1)[0])
        print(f"{name:10} {held[-1] / 1e6:14.1f} {slope:16.1f}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
