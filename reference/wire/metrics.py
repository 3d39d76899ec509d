"""Prometheus metrics: a registry of each server's own, and the text that `/metrics` answers.

What a request counts in is `Counts` and `Latencies`: plain numbers that prometheus-client reads when it is asked. Its
own counters take a lock and three calls each; all of a request's took as long as its checks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from starlette.responses import Response

LATENCY_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
    640.0,
)  # fmt: skip
"""Seconds; vLLM's own boundaries for the time to the first token, so that the two can be laid side by side."""


class Counts(Collector):
    """A counter by labels. `by[labels] += 1` from the thread of the event loop alone."""

    def __init__(self, name: str, about: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self.by: dict[tuple[str, ...], float] = {}
        self._name, self._about, self._labels = name, about, labels
        registry.register(self)

    def add(self, labels: tuple[str, ...], count: float = 1) -> None:
        """Count something."""
        self.by[labels] = self.by.get(labels, 0) + count

    def collect(self) -> Iterable[Metric]:
        """Return what has been counted."""
        family = CounterMetricFamily(self._name, self._about, labels=self._labels)
        for labels, count in self.by.items():
            family.add_metric(labels, count)
        return [family]


class Latencies(Collector):
    """A histogram of seconds by one label, with the boundaries of `LATENCY_BUCKETS`; from one thread alone."""

    def __init__(self, name: str, about: str, label: str, registry: CollectorRegistry) -> None:
        self._by: dict[str, tuple[list[int], list[float]]] = {}
        self._name, self._about, self._label = name, about, label
        registry.register(self)

    def observe(self, label: str, seconds: float) -> None:
        """Count one duration; a bucket holds those up to its boundary, as Prometheus has it."""
        found = self._by.get(label)
        if found is None:
            found = self._by[label] = [0] * (len(LATENCY_BUCKETS) + 1), [0.0]
        counts, total = found
        counts[bisect_left(LATENCY_BUCKETS, seconds)] += 1
        total[0] += seconds

    def collect(self) -> Iterable[Metric]:
        """Return what has been observed."""
        family = HistogramMetricFamily(self._name, self._about, labels=[self._label])
        for label, (counts, total) in self._by.items():
            boundaries = [*map(floatToGoString, LATENCY_BUCKETS), "+Inf"]
            buckets = [*zip(boundaries, accumulate(counts), strict=True)]
            family.add_metric([label], buckets, total[0])
        return [family]


def metrics_response(registry: CollectorRegistry) -> Response:
    """Return the registry as Prometheus' text format."""
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
