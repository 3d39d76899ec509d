"""TensorRT-LLM's metrics, made whole: iterations are read once and counted, its Prometheus page goes before them.

`GET /metrics` gives the iterations since the last reader as JSON and forgets them; `[]` says that there is nothing new,
not that there is no load. Field names as in its `IterationStats`; metric names as in its own collector.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

READ_SECONDS = 1.0
"""How often iterations are fetched; it keeps a thousand of them, which is more than a second's."""
TIMEOUT_SECONDS = 2.0

_GAUGES = {
    "trtllm_num_requests_running": "Active requests.",
    "trtllm_num_requests_waiting": "Queued and paused requests.",
    "trtllm_kv_cache_utilization": "KV cache usage, 0 to 1.",
    "trtllm_kv_cache_max_blocks": "KV blocks.",
    "trtllm_kv_cache_free_blocks": "KV blocks that are free.",
    "trtllm_kv_cache_used_blocks": "KV blocks in use.",
    "trtllm_kv_cache_tokens_per_block": "Tokens in a KV block.",
    "trtllm_gpu_memory_usage_bytes": "GPU memory in use.",
}
_COUNTERS = {
    "trtllm_iterations": "Iterations.",
    "trtllm_iteration_seconds": "Time spent in iterations; its rate is how busy the engine is.",
    "trtllm_iteration_context_tokens": "Prompt tokens computed, by iterations.",
    "trtllm_iteration_generation_tokens": "Tokens generated, by iterations: one a request and iteration.",
    "trtllm_num_requests_completed": "Requests completed.",
}


@dataclass(slots=True)
class Iterations:
    """What has been read of an engine's iterations: the last one's gauges, and sums over all."""

    gauges: dict[str, float] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_COUNTERS, 0.0))

    def take(self, page: Any, in_flight: int) -> None:
        """Count what one read gave. An idle engine gives nothing: no more can run then than is in flight to it."""
        iterations = [entry for entry in page if isinstance(entry, Mapping)] if isinstance(page, list) else []
        for entry in iterations:
            self._count(entry)
        if iterations:
            self.gauges |= _gauges_of(iterations[-1])
        for name in ("trtllm_num_requests_running", "trtllm_num_requests_waiting"):
            if not iterations and name in self.gauges:
                self.gauges[name] = min(self.gauges[name], float(in_flight))

    def _count(self, entry: Mapping[str, Any]) -> None:
        batch = _part(entry, "inflightBatchingStats")
        totals = self.totals
        totals["trtllm_iterations"] += 1
        totals["trtllm_iteration_seconds"] += _number(entry, "iterLatencyMS") / 1000
        totals["trtllm_iteration_context_tokens"] += _number(batch, "numCtxTokens")
        totals["trtllm_iteration_generation_tokens"] += _number(batch, "numGenRequests")
        totals["trtllm_num_requests_completed"] += _number(entry, "numCompletedRequests")


class TrtMetrics(Collector):
    """The metrics of one run of the engine. `run` is their only reader."""

    def __init__(self, session: aiohttp.ClientSession, url: str, in_flight: Callable[[], int]) -> None:
        self.iterations = Iterations()
        self._in_flight = in_flight
        self._session = session
        self._url = url
        self._theirs = b""

    async def run(self) -> None:
        """Read iterations at every interval, before the engine forgets them."""
        while True:
            began = time.monotonic()
            raw = await self._get("/metrics")
            # one that was cut off is lost; the next one is whole again
            with suppress(orjson.JSONDecodeError):
                self.iterations.take(orjson.loads(raw), self._in_flight())
            await asyncio.sleep(max(0.0, READ_SECONDS - (time.monotonic() - began)))

    async def page(self) -> bytes:
        """Return the engine's own page, where it has one, and what it lacks."""
        self._theirs = await self._get("/prometheus/metrics")
        registry = CollectorRegistry()
        registry.register(self)
        return self._theirs + generate_latest(registry)

    def collect(self) -> Iterable[Metric]:
        """Return what was counted, less what the engine's own page says itself."""
        theirs = {line.split(b"{", 1)[0].split(b" ", 1)[0].decode() for line in self._theirs.splitlines()}
        for name, about in _GAUGES.items():
            if name in self.iterations.gauges and name not in theirs:
                yield GaugeMetricFamily(name, about, value=self.iterations.gauges[name])
        for name, about in _COUNTERS.items():
            if f"{name}_total" not in theirs:
                yield CounterMetricFamily(name, about, value=self.iterations.totals[name])

    async def _get(self, path: str) -> bytes:
        try:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
            async with self._session.get(self._url + path, timeout=timeout) as answer:
                return await answer.read() if answer.status == 200 else b""
        except (aiohttp.ClientError, OSError, TimeoutError):
            return b""


def _gauges_of(entry: Mapping[str, Any]) -> dict[str, float]:
    blocks, batch = _part(entry, "kvCacheStats"), _part(entry, "inflightBatchingStats")
    found = {
        "trtllm_num_requests_running": _number(entry, "numActiveRequests"),
        "trtllm_num_requests_waiting": _number(entry, "numQueuedRequests") + _number(batch, "numPausedRequests"),
        "trtllm_gpu_memory_usage_bytes": _number(entry, "gpuMemUsage"),
    }
    if blocks:
        most, used = _number(blocks, "maxNumBlocks"), _number(blocks, "usedNumBlocks")
        found |= {
            "trtllm_kv_cache_max_blocks": most,
            "trtllm_kv_cache_free_blocks": _number(blocks, "freeNumBlocks"),
            "trtllm_kv_cache_used_blocks": used,
            "trtllm_kv_cache_tokens_per_block": _number(blocks, "tokensPerBlock"),
            "trtllm_kv_cache_utilization": used / most if most else 0.0,
        }
    return found


def _part(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = entry.get(name)
    return found if isinstance(found, Mapping) else {}


def _number(entry: Mapping[str, Any], name: str) -> float:
    value = entry.get(name)
    return float(value) if isinstance(value, int | float) else 0.0
