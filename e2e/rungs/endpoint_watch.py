"""Watching an endpoint from outside while it is flown at: what its metrics page tells, if it has one.

vLLM's and TensorRT-LLM's names become the simulator's. An endpoint without such a page gives no samples.
"""

from __future__ import annotations

import threading
import time
import urllib.request

from e2e.replay.address import address_of
from e2e.replay.preflight import tls_context
from sim.experiment.samples import Sample

PATHS = ("/prometheus/metrics", "/metrics")
"""In this order: to read TensorRT-LLM's `/metrics` is to take from whoever else reads it."""
COMPONENT = "replica/endpoint"

_GAUGES = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "queue_depth",
    "vllm:kv_cache_usage_perc": "kv_usage",
    "vllm:gpu_cache_usage_perc": "kv_usage",
    "trtllm_num_requests_running": "running",
    "trtllm_num_requests_waiting": "queue_depth",
    "trtllm_kv_cache_utilization": "kv_usage",
}


class EndpointWatch:
    """A thread that samples from zero until the watch is left."""

    def __init__(self, url: str, interval: float, *, verify_tls: bool = True) -> None:
        self.samples: list[Sample] = []
        self._url = address_of(url).url
        self._interval = interval
        self._tls = tls_context(verify_tls)
        self._stop = threading.Event()
        self._zero = 0.0
        self._thread = threading.Thread(target=self._run, name="endpoint-watch", daemon=True)

    def __enter__(self) -> EndpointWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def start(self, zero: float) -> None:
        """Begin at `zero` on the monotonic clock."""
        self._zero = zero
        self._thread.start()

    def _run(self) -> None:
        url = next((self._url + path for path in PATHS if gauges_of(self._page(self._url + path))), None)
        number = 0
        while url and not self._stop.wait(max(0.0, self._zero + number * self._interval - time.monotonic())):
            found = gauges_of(self._page(url))
            self.samples += [(number * self._interval, COMPONENT, name, value) for name, value in found.items()]
            number = max(number + 1, int((time.monotonic() - self._zero) / self._interval))

    def _page(self, url: str) -> str:
        try:
            with urllib.request.urlopen(url, timeout=2, context=self._tls) as answer:
                return str(answer.read(1 << 20).decode("utf-8", "replace"))
        except OSError:
            # no such page, or not now: no sample
            return ""


def gauges_of(page: str) -> dict[str, float]:
    """Read the gauges of a Prometheus page: counts summed over engines, usage the mean over them."""
    values: dict[str, list[float]] = {}
    for line in page.splitlines():
        name = _GAUGES.get(line.partition("{")[0].partition(" ")[0])
        if name is not None:
            values.setdefault(name, []).append(float(line.rsplit(" ", 1)[1]))
    return {name: sum(found) / (len(found) if name == "kv_usage" else 1) for name, found in values.items()}
