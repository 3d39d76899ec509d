"""Watching a stack while it flies: gauges at every sample interval, by the simulator's names."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic

from e2e.rungs.pages import gauges
from e2e.rungs.parts import Deployed, S, Server
from sim.experiment.samples import Sample

Rows = list[Sample]

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


class GaugeWatch(Generic[S]):
    """A thread that samples from zero until it is stopped. A component that does not answer has no sample then."""

    def __init__(self, stack: Deployed[S], interval: float) -> None:
        self.samples: Rows = []
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
                # a copy: workers may come and go meanwhile
                workers = list(self._stack.workers.values())
                found = list(threads.map(partial(self._worker, at), workers))
                self.samples += [sample for samples in found for sample in samples]
                ready = [worker.name for worker, samples in zip(workers, found, strict=True) if samples]
                for pool in self._stack.pools:
                    there = sum(1 for name in ready if name.rpartition("-")[0] == pool)
                    self.samples.append((at, f"pool/{pool}", "ready", float(there)))
                self.samples += self._servers(at)
                number = max(number + 1, int((time.monotonic() - self._zero) / self._interval))

    def _worker(self, at: float, worker: Server) -> Rows:
        found = gauges(worker.page())
        return [
            (at, f"replica/{worker.name}", measure, found[m]) for m, measure in _WORKER_GAUGES.items() if m in found
        ]

    def _servers(self, at: float) -> Rows:
        found = gauges(self._stack.router.page()) | gauges(self._stack.gateway.page())
        return [(at, who, measure, found[name]) for name, (who, measure) in _SERVER_GAUGES.items() if name in found]
