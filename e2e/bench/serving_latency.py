"""What gateway, router and both add to the time to first token, beside relays in 20 lines and nginx.

`python -m e2e.bench.serving_latency [STREAMS [ROUNDS]]`. Streams whose chunks are a millisecond apart, a few at once,
each on a connection that is kept; milliseconds from the last byte of the request to the first of the stream. What is
added is the difference of quantiles to asking the back end itself in the same round.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import numpy as np
import orjson

from e2e.bench.serving import BODY, KEY, STREAM, add_servers
from e2e.rungs.processes import Crew

CONCURRENCY = 4
PAUSE_SECONDS = 0.01
"""Between two streams of one client, so that nothing queues for a processor."""


async def first_bytes(url: str, count: int) -> list[float]:
    """Return the seconds to the first byte of each stream."""
    raw = orjson.dumps({**BODY, **STREAM, "user": "paced"})
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    left = iter(range(count))
    found: list[float] = []

    async def client(session: aiohttp.ClientSession) -> None:
        for _ in left:
            began = time.perf_counter()
            async with session.post(f"{url}/v1/chat/completions", data=raw, headers=headers) as answer:
                await answer.content.readany()
                found.append(time.perf_counter() - began)
                if answer.status != 200 or b"[DONE]" not in await answer.read():
                    raise RuntimeError(f"{url}: {answer.status}")
            await asyncio.sleep(PAUSE_SECONDS)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(client(session) for _ in range(CONCURRENCY)))
    return found


def main(count: int = 200, num_rounds: int = 5) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as scratch, Crew(Path(scratch)) as crew:
        processes, measured = add_servers(crew)
        for process in processes:
            crew.start(process)
        crew.wait_until_ready(processes)
        urls = {"direct": processes[0].url} | {name: first[0].url for name, first in measured.items()}
        found: dict[str, list[float]] = {name: [] for name in urls}
        for url in urls.values():
            asyncio.run(first_bytes(url, 20))
        for _ in range(num_rounds):
            for name, url in urls.items():
                found[name] += asyncio.run(first_bytes(url, count))
    base = np.quantile(found["direct"], (0.5, 0.99)) * 1e3
    print(f"{'ms':10} {'TTFT p50':>9} {'p99':>7} {'added p50':>10} {'p99':>7}")
    for name, seconds in found.items():
        at = np.quantile(seconds, (0.5, 0.99)) * 1e3
        print(f"{name:10} {at[0]:9.2f} {at[1]:7.2f} {at[0] - base[0]:10.2f} {at[1] - base[1]:7.2f}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
