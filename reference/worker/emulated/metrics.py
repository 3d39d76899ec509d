"""The emulated worker's metrics, by vLLM's names, read from the engine when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reference.engine import Engine
from reference.wire.metrics import LATENCY_BUCKETS


class EngineCollector(Collector):
    """Reads gauges and counters of the engine at the moment of a scrape."""

    def __init__(self, engine: Engine, model: str) -> None:
        self._engine = engine
        self._model = model

    def collect(self) -> Iterable[Metric]:
        """Return vLLM's gauges and counters."""
        engine, counters = self._engine, self._engine.counters
        gauges = {
            "vllm:num_requests_running": ("Requests in the batch.", engine.num_running),
            "vllm:num_requests_waiting": ("Requests that wait for a seat.", engine.num_waiting),
            "vllm:kv_cache_usage_perc": ("KV cache usage, 0 to 1.", engine.kv_usage),
        }
        for name, (about, value) in gauges.items():
            gauge = GaugeMetricFamily(name, about, labels=["model_name"])
            gauge.add_metric([self._model], float(value))
            yield gauge
        totals = {
            "vllm:prompt_tokens": ("Prompt tokens computed.", counters.prefilled_tokens),
            "vllm:generation_tokens": ("Tokens generated.", counters.generated_tokens),
            "vllm:prefix_cache_queries": ("Tokens looked up in the prefix cache.", counters.queried_tokens),
            "vllm:prefix_cache_hits": ("Tokens found in the prefix cache.", counters.cached_tokens),
            "vllm:num_preemptions": ("Preemptions.", counters.preemptions),
            "vllm:request_success": ("Requests finished.", counters.finished),
        }
        for name, (about, value) in totals.items():
            counter = CounterMetricFamily(name, about, labels=["model_name"])
            counter.add_metric([self._model], float(value))
            yield counter


class WorkerMetrics:
    """The registry of one worker: the engine's numbers, and histograms that the server observes."""

    def __init__(self, engine: Engine, model: str, block_size: int, num_blocks: int) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(EngineCollector(engine, model))
        self._labels = {"model_name": model}
        self.ttft = self._histogram("time_to_first_token_seconds", "From arrival to the first token.")
        self.itl = self._histogram("inter_token_latency_seconds", "Between two tokens of an answer.")
        self.e2e = self._histogram("e2e_request_latency_seconds", "From arrival to the last token.")
        self.queue = self._histogram("request_queue_time_seconds", "From arrival to the first step.")
        self.prefill = self._histogram("request_prefill_time_seconds", "From the first step to the first token.")
        self.decode = self._histogram("request_decode_time_seconds", "From the first token to the last.")
        info = GaugeMetricFamily("vllm:cache_config_info", "Cache settings.", labels=["block_size", "num_gpu_blocks"])
        info.add_metric([str(block_size), str(num_blocks)], 1.0)
        self.registry.register(_Constant(info))

    def _histogram(self, name: str, about: str) -> Histogram:
        histogram = Histogram(f"vllm:{name}", about, ["model_name"], buckets=LATENCY_BUCKETS, registry=self.registry)
        return histogram.labels(**self._labels)


class Timing:
    """Observes the tokens of one request. Made when it arrives."""

    __slots__ = ("_arrived", "_first", "_last", "_metrics")

    def __init__(self, metrics: WorkerMetrics, now: float) -> None:
        self._metrics = metrics
        self._arrived = self._first = self._last = now

    def token(self, position: int, now: float) -> None:
        """Note a token; positions count from 1."""
        if position == 1:
            self._first = now
            self._metrics.ttft.observe(now - self._arrived)
        else:
            self._metrics.itl.observe(now - self._last)
        self._last = now

    def finished(self, waited_seconds: float) -> None:
        """Note the end, which is the last token."""
        metrics = self._metrics
        metrics.e2e.observe(self._last - self._arrived)
        metrics.queue.observe(waited_seconds)
        metrics.prefill.observe(max(0.0, self._first - self._arrived - waited_seconds))
        metrics.decode.observe(self._last - self._first)


class _Constant(Collector):
    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        """Return the same metric each time."""
        return [self._metric]
