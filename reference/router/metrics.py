"""The router's metrics: queue depth, in flight, decisions by reason, endpoint states, what was observed and its age."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from math import isfinite

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reference.policy.pool import Action, Dispatch, Pool, Refuse
from reference.policy.view import Endpoint
from reference.router.discovery import Known
from reference.wire.metrics import Counts, Latencies

MAX_REASONS = 100


class RouterMetrics:
    """The registry of one router."""

    def __init__(self, pools: Mapping[str, Pool], known: Callable[[], Iterable[Known]] = tuple) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_PoolCollector(pools, known))
        self._decisions = Counts(
            "windtunnel_router_decisions", "Decisions about requests.", ["model", "kind", "reason"], self.registry
        )
        self._reasons: set[str] = set()
        self._wait = Latencies(
            "windtunnel_router_dispatch_wait_seconds", "From arrival to the dispatch.", "model", self.registry
        )

    def _bounded(self, reason: str) -> str:
        """Return a reason as a label: a user's own policy may give a new one each time, and a series lives for ever."""
        if reason not in self._reasons:
            if len(self._reasons) >= MAX_REASONS:
                return "another"
            self._reasons.add(reason)
        return reason

    def decided(self, now: float, action: Action) -> None:
        """Count one decision."""
        model = action.request.model
        match action:
            case Dispatch(decision=decision, attempt=attempt):
                self._decisions.add((model, "dispatch", self._bounded(decision.reason)))
                if attempt == 1:
                    self._wait.observe(model, now - action.request.arrived_at)
            case Refuse(rejected=rejected):
                self._decisions.add((model, "refuse", rejected.reason))
            case _:
                self._decisions.add((model, "fail", action.reason))


class _PoolCollector(Collector):
    def __init__(self, pools: Mapping[str, Pool], known: Callable[[], Iterable[Known]]) -> None:
        self._pools = pools
        self._known = known

    def collect(self) -> Iterable[Metric]:
        """Read the pools when they are asked for."""
        queue = GaugeMetricFamily(
            "windtunnel_router_queue_depth", "Requests that wait for an endpoint.", labels=["model"]
        )
        flying = GaugeMetricFamily(
            "windtunnel_router_in_flight", "Requests dispatched to an endpoint.", labels=["model", "endpoint"]
        )
        state = GaugeMetricFamily("windtunnel_router_endpoints", "Endpoints by state.", labels=["model", "state"])
        retries = CounterMetricFamily("windtunnel_router_retries", "Second and later attempts.", labels=["model"])
        observed = _Observed()
        unhealthy = Counter(known.model for known in self._known() if not known.watch.is_healthy)
        for model, pool in self._pools.items():
            queue.add_metric([model], pool.num_queued)
            retries.add_metric([model], pool.counters.retries)
            states = {"available": 0, "draining": 0, "ejected": 0, "unhealthy": unhealthy[model]}
            for endpoint in pool.endpoints:
                flying.add_metric([model, endpoint.name], endpoint.in_flight)
                word = "draining" if endpoint.is_draining else "ejected" if endpoint.ejected_until else "available"
                states[word] += 1
                observed.add(model, endpoint)
            for word, count in states.items():
                state.add_metric([model, word], count)
        return [queue, flying, state, retries, observed.signals, observed.age]


class _Observed:
    """What scrapes last reported of endpoints, and how long ago: what policies decide by."""

    def __init__(self) -> None:
        self._now = time.monotonic()
        self.signals = GaugeMetricFamily(
            "windtunnel_router_observed", "What a scrape last reported.", labels=["model", "endpoint", "signal"]
        )
        self.age = GaugeMetricFamily(
            "windtunnel_router_observation_age_seconds", "Since that scrape.", labels=["model", "endpoint"]
        )

    def add(self, model: str, endpoint: Endpoint) -> None:
        """Add an endpoint, if anything has been observed of it."""
        seen = endpoint.observed
        if not isfinite(seen.observed_at):
            return
        self.age.add_metric([model, endpoint.name], self._now - seen.observed_at)
        for signal in ("running", "queue_depth", "kv_usage"):
            self.signals.add_metric([model, endpoint.name, signal], getattr(seen, signal))
