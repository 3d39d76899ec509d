"""The metrics that a worker adds to its engine's own page, by names that are the same for every engine."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reference.wire.metrics import LATENCY_BUCKETS
from reference.worker.supervised.supervisor import State, Supervisor


class WorkerMetrics:
    """The registry of one supervised worker."""

    def __init__(self, engine: str) -> None:
        self.registry = CollectorRegistry()
        self._engine = engine
        self.in_flight = Gauge("windtunnel_worker_in_flight", "Requests under way.", registry=self.registry)
        self._requests = Counter(
            "windtunnel_worker_requests", "Requests answered.", ["path", "status"], registry=self.registry
        )
        self._seconds = self._histogram("windtunnel_worker_request_seconds", "From arrival to the last byte.")
        self._first_byte = self._histogram("windtunnel_worker_first_byte_seconds", "From arrival to the first byte.")

    def watch(self, supervisor: Supervisor) -> None:
        """Read the engine's life when it is asked for."""
        self.registry.register(_LifeCollector(self._engine, supervisor))

    def answered(self, path: str, status: int, seconds: float, first_byte_seconds: float | None) -> None:
        """Count one request; 499 is a client that left."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)
        if first_byte_seconds is not None:
            self._first_byte.labels(path).observe(first_byte_seconds)

    def page(self) -> bytes:
        """Return them as text."""
        return generate_latest(self.registry)

    def _histogram(self, name: str, about: str) -> Histogram:
        return Histogram(name, about, ["path"], buckets=LATENCY_BUCKETS, registry=self.registry)


class _LifeCollector(Collector):
    def __init__(self, engine: str, supervisor: Supervisor) -> None:
        self._engine = engine
        self._supervisor = supervisor

    def collect(self) -> Iterable[Metric]:
        """Return the engine's state, starts, and how long the last one took."""
        supervisor = self._supervisor
        state = GaugeMetricFamily(
            "windtunnel_worker_engine_state", "1 for the state it is in.", labels=["engine", "state"]
        )
        for known in State:
            state.add_metric([self._engine, known.value], float(known is supervisor.state))
        starts = CounterMetricFamily("windtunnel_worker_engine_starts", "Starts of the engine.", labels=["engine"])
        starts.add_metric([self._engine], supervisor.num_starts)
        ready = GaugeMetricFamily(
            "windtunnel_worker_engine_start_seconds", "How long its last start took.", labels=["engine"]
        )
        ready.add_metric([self._engine], supervisor.seconds_to_ready)
        return [state, starts, ready]
