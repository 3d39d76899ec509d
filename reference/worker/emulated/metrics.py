"""The emulated worker's metrics: the engine's numbers and the latencies of requests, by the names of its persona.

Besides, by our own names and for every persona alike: `windtunnel_worker_tokens_per_second{kind}` and
`windtunnel_worker_requests_per_second`, over the last ten seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reference.engine import Engine
from reference.wire.metrics import LATENCY_BUCKETS

RATE_SECONDS = 10


class Names(NamedTuple):
    """What one kind of server calls its metrics."""

    prefix: str
    labels: dict[str, str]
    """Besides the model's name."""
    gauges: Callable[[Engine, int], dict[str, float]]
    counters: Callable[[Engine], dict[str, float]]
    has_itl: bool
    tpot: str
    cache_info: str


def _vllm_gauges(engine: Engine, num_blocks: int) -> dict[str, float]:
    return {
        "num_requests_running": engine.num_running,
        "num_requests_waiting": engine.num_waiting,
        "kv_cache_usage_perc": engine.kv_usage,
    }


def _vllm_counters(engine: Engine) -> dict[str, float]:
    counters = engine.counters
    return {
        "prompt_tokens": counters.prefilled_tokens,
        "generation_tokens": counters.generated_tokens,
        "prefix_cache_queries": counters.queried_tokens,
        "prefix_cache_hits": counters.cached_tokens,
        "num_preemptions": counters.preemptions,
    }


def _trt_gauges(engine: Engine, num_blocks: int) -> dict[str, float]:
    used = round(engine.kv_usage * num_blocks)
    return {
        "num_requests_running": engine.num_running,
        "num_requests_waiting": engine.num_waiting,
        "kv_cache_utilization": engine.kv_usage,
        "kv_cache_hit_rate": engine.counters.cached_tokens / max(1, engine.counters.queried_tokens),
        "kv_cache_max_blocks": num_blocks,
        "kv_cache_used_blocks": used,
        "kv_cache_free_blocks": num_blocks - used,
    }


def _trt_counters(engine: Engine) -> dict[str, float]:
    counters = engine.counters
    return {
        "prompt_tokens": counters.prefilled_tokens,
        "generation_tokens": counters.generated_tokens,
        "num_requests_completed": counters.finished,
    }


NAMES = {
    "vllm": Names(
        "vllm:",
        {"engine": "0"},
        _vllm_gauges,
        _vllm_counters,
        True,
        "request_time_per_output_token_seconds",
        "cache_config_info",
    ),
    "trt": Names(
        "trtllm_",
        {"engine_type": "trtllm"},
        _trt_gauges,
        _trt_counters,
        False,
        "time_per_output_token_seconds",
        "kv_cache_config_info",
    ),
}


class WorkerMetrics:
    """The registry of one worker: the engine's numbers, and histograms that the server observes."""

    def __init__(self, engine: Engine, model: str, block_size: int, num_blocks: int, persona: str = "vllm") -> None:
        self.registry = CollectorRegistry()
        self.rates = Rates(engine)
        names = self._names = NAMES[persona]
        self._labels = {"model_name": model, **names.labels}
        self.ttft = self._histogram("time_to_first_token_seconds", "From arrival to the first token.")
        self.itl = self._histogram("inter_token_latency_seconds", "Between two tokens.") if names.has_itl else None
        self.tpot = self._histogram(names.tpot, "Mean time between the tokens of an answer.")
        self.e2e = self._histogram("e2e_request_latency_seconds", "From arrival to the last token.")
        self.queue = self._histogram("request_queue_time_seconds", "From arrival to the first step.")
        self.prefill = self._histogram("request_prefill_time_seconds", "From the first step to the first token.")
        self.decode = self._histogram("request_decode_time_seconds", "From the first token to the last.")
        self._success = Counter(
            f"{names.prefix}request_success",
            "Requests finished.",
            [*self._labels, "finished_reason"],
            registry=self.registry,
        )
        self.registry.register(_EngineCollector(engine, names, self._labels, num_blocks))
        info = GaugeMetricFamily(
            names.prefix + names.cache_info, "Cache settings.", labels=["block_size", "num_gpu_blocks"]
        )
        info.add_metric([str(block_size), str(num_blocks)], 1.0)
        self.registry.register(_Constant(info))
        self.registry.register(self.rates)

    def succeeded(self, reason: str) -> None:
        """Count one answer that is complete."""
        self._success.labels(**self._labels, finished_reason=reason).inc()

    def _histogram(self, name: str, about: str) -> Histogram:
        histogram = Histogram(
            self._names.prefix + name, about, [*self._labels], buckets=LATENCY_BUCKETS, registry=self.registry
        )
        return histogram.labels(**self._labels)


class Timing:
    """Observes the tokens of one request. Made when it arrives."""

    __slots__ = ("_arrived", "_first", "_last", "_metrics", "_position")

    def __init__(self, metrics: WorkerMetrics, now: float) -> None:
        self._metrics = metrics
        self._arrived = self._first = self._last = now
        self._position = 0

    def token(self, position: int, now: float) -> None:
        """Note a token; positions count from 1."""
        if position == 1:
            self._first = now
            self._metrics.ttft.observe(now - self._arrived)
        elif self._metrics.itl is not None:
            self._metrics.itl.observe(now - self._last)
        self._last = now
        self._position = position

    def finished(self, waited_seconds: float, reason: str = "stop") -> None:
        """Note the end, which is the last token."""
        metrics = self._metrics
        metrics.e2e.observe(self._last - self._arrived)
        metrics.queue.observe(waited_seconds)
        metrics.prefill.observe(max(0.0, self._first - self._arrived - waited_seconds))
        metrics.decode.observe(self._last - self._first)
        if self._position > 1:
            metrics.tpot.observe((self._last - self._first) / (self._position - 1))
        metrics.succeeded(reason)


class Rates(Collector):
    """Throughput over the last seconds. `sample` is called once a second as long as the worker lives."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._samples: deque[tuple[float, int, int, int]] = deque(maxlen=RATE_SECONDS + 1)

    def sample(self, now: float) -> None:
        """Note the totals as they are now."""
        counters = self._engine.counters
        self._samples.append((now, counters.prefilled_tokens, counters.generated_tokens, counters.finished))

    def collect(self) -> Iterable[Metric]:
        """Return the means from the oldest sample to the youngest; 0 as long as there are not two."""
        began, *before = self._samples[0] if self._samples else (0.0, 0, 0, 0)
        ended, *after = self._samples[-1] if self._samples else (0.0, 0, 0, 0)
        seconds = (ended - began) or 1.0
        prompt, generation, requests = [(b - a) / seconds for a, b in zip(before, after, strict=True)]
        tokens = GaugeMetricFamily("windtunnel_worker_tokens_per_second", "Tokens per second.", labels=["kind"])
        tokens.add_metric(["prompt"], prompt)
        tokens.add_metric(["generation"], generation)
        yield tokens
        yield GaugeMetricFamily("windtunnel_worker_requests_per_second", "Requests finished per second.", requests)


class _EngineCollector(Collector):
    """Reads gauges and counters of the engine at the moment of a scrape."""

    def __init__(self, engine: Engine, names: Names, labels: dict[str, str], num_blocks: int) -> None:
        self._engine = engine
        self._names = names
        self._labels = labels
        self._num_blocks = num_blocks

    def collect(self) -> Iterable[Metric]:
        """Return the persona's gauges and counters."""
        names, values = self._names, [*self._labels.values()]
        for name, value in names.gauges(self._engine, self._num_blocks).items():
            gauge = GaugeMetricFamily(names.prefix + name, _about(name), labels=[*self._labels])
            gauge.add_metric(values, float(value))
            yield gauge
        for name, value in names.counters(self._engine).items():
            counter = CounterMetricFamily(names.prefix + name, _about(name), labels=[*self._labels])
            counter.add_metric(values, float(value))
            yield counter


class _Constant(Collector):
    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        """Return the same metric each time."""
        return [self._metric]


def _about(name: str) -> str:
    return name.replace("_", " ").capitalize() + "."
