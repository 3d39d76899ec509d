"""Watching a stack while it flies: gauges at every sample interval, by the simulator's names."""

from __future__ import annotations

import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from e2e.rungs.stack import Stack

Samples = list[tuple[float, str, str, float]]

_WORKER_GAUGES = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "queue_depth",
    "vllm:kv_cache_usage_perc": "kv_usage",
}
_SERVER_GAUGES = {
    "windtunnel_router_queue_depth": ("router", "queue"),
    "windtunnel_router_in_flight": ("router", "in_flight"),
    "windtunnel_gateway_in_flight": ("gateway", "in_flight"),
}


class GaugeWatch:
    """A thread that samples from zero until it is stopped. A component that does not answer has no sample then."""

    def __init__(self, stack: Stack, interval: float) -> None:
        self.samples: Samples = []
        self._stack = stack
        self._interval = interval
        self._stop = threading.Event()
        self._zero = 0.0
        self._thread = threading.Thread(target=self._run, name="gauges", daemon=True)

    def start(self, zero: float) -> None:
        """Begin at `zero` on the monotonic clock."""
        self._zero = zero
        self._thread.start()

    def stop(self) -> None:
        """Stop, if it was started, and wait for the last sample."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        with ThreadPoolExecutor(4, thread_name_prefix="scrape") as threads:
            number = 0
            while not self._stop.wait(max(0.0, self._zero + number * self._interval - time.monotonic())):
                at = number * self._interval
                found = list(threads.map(partial(self._worker, at), self._stack.workers))
                self.samples += [sample for samples in found for sample in samples]
                ready = {name for name, samples in zip(self._stack.workers, found, strict=True) if samples}
                for pool in self._stack.pools:
                    there = sum(1 for worker in self._stack.workers_of(pool) if worker.name in ready)
                    self.samples.append((at, f"pool/{pool}", "ready", float(there)))
                self.samples += self._servers(at)
                number = max(number + 1, int((time.monotonic() - self._zero) / self._interval))

    def _worker(self, at: float, name: str) -> Samples:
        found = _scrape(self._stack.workers[name].url)
        return [(at, f"replica/{name}", measure, found[m]) for m, measure in _WORKER_GAUGES.items() if m in found]

    def _servers(self, at: float) -> Samples:
        found = _scrape(self._stack.router.url) | _scrape(self._stack.gateway.url)
        return [(at, who, measure, found[name]) for name, (who, measure) in _SERVER_GAUGES.items() if name in found]


def _scrape(url: str) -> dict[str, float]:
    """Return the gauges of a component, summed over their labels; empty when it does not answer."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=1) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith(("vllm:", "windtunnel_")):
            name = line.split("{", 1)[0].split(" ", 1)[0]
            found[name] = found.get(name, 0.0) + float(line.rsplit(" ", 1)[1])
    return found
