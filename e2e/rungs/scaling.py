"""Autoscaling of real servers: the deployed policy reads real gauges, and workers come and go.

A new worker is listed for the router when it starts, and becomes an endpoint once it is healthy. One that is
to go is taken off the list, finishes what it has, and is stopped when the router has forgotten it.
"""

from __future__ import annotations

import sched
import threading
import time
from typing import Any, Generic

from e2e.rungs.pages import by_endpoint, gauges
from e2e.rungs.parts import Deployed, Hands, S
from reference.policy.autoscaling import AutoscalerSettings, HorizontalAutoscaler
from sim.cluster.cold_start import cold_start_of
from sim.experiment.schema import Autoscale

LOOK_SECONDS = 0.2
_GAUGES = {
    "running": "vllm:num_requests_running",
    "queue_depth": "vllm:num_requests_waiting",
    "kv_usage": "vllm:kv_cache_usage_perc",
}


class Scaling(Generic[S]):
    """A thread that scales every pool that asks for it."""

    def __init__(self, crew: Hands[S], stack: Deployed[S], starting_seconds: float) -> None:
        self.events: list[dict[str, Any]] = []
        self._crew = crew
        self._stack = stack
        self._starting_seconds = starting_seconds
        self._zero = 0.0
        self._draining: set[str] = set()
        self._since = dict.fromkeys(stack.workers, 0.0)
        """When each worker that is there was asked for, in seconds from zero."""
        self._spent: dict[str, float] = {}
        """Seconds of the workers that have gone, by pool."""
        self._has_image = {
            name: {ordinal // pool.replicas_per_node for ordinal in range(pool.replicas)}
            for name, pool in stack.pools.items()
        }
        """Nodes of each pool, by number within it, that hold the image already; elsewhere its pull is waited for."""
        self._stop = threading.Event()
        self._agenda = sched.scheduler(time.monotonic, self._sleep)
        self._thread = threading.Thread(target=self._agenda.run, name="scaling", daemon=True)

    def start(self, zero: float) -> None:
        """Begin at `zero` on the monotonic clock."""
        self._zero = zero
        for name, pool in self._stack.pools.items():
            if pool.autoscale is not None:
                policy = HorizontalAutoscaler(_policy_settings(pool.autoscale))
                first = zero + pool.autoscale.interval
                self._agenda.enterabs(first, 1, self._decide, (name, pool.autoscale, policy, first))
        self._thread.start()

    def stop(self) -> None:
        """Decide nothing more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def replica_seconds(self, end: float) -> dict[str, float]:
        """Return how long the replicas of each pool were there or starting, all together, from zero to `end`."""
        spent = {pool: self._spent.get(pool, 0.0) for pool in self._stack.pools}
        for worker, since in self._since.items():
            spent[worker.rpartition("-")[0]] += end - since
        return spent

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            for entry in self._agenda.queue:
                self._agenda.cancel(entry)

    def _decide(self, name: str, settings: Autoscale, policy: HorizontalAutoscaler, due: float) -> None:
        self._agenda.enterabs(
            due + settings.interval, 1, self._decide, (name, settings, policy, due + settings.interval)
        )
        staying = [worker.name for worker in self._stack.workers_of(name) if worker.name not in self._draining]
        readings = self._readings(staying, settings.metric)
        self._agenda.enter(settings.metrics_delay, 1, self._act, (name, policy, readings, due + settings.metrics_delay))

    def _act(self, name: str, policy: HorizontalAutoscaler, readings: dict[str, float], due: float) -> None:
        """Decide by what was read, once it has come through."""
        staying = [worker.name for worker in self._stack.workers_of(name) if worker.name not in self._draining]
        decision = policy.decide(replicas=len(staying), readings=[*readings.values()], now=due - self._zero)
        change = decision.replicas - len(staying)
        if not change:
            return
        about = f"{len(staying)} to {decision.replicas}: {decision.reason}"
        self._note("scale_up" if change > 0 else "scale_down", name, about)
        for _ in range(change):
            self._add(name)
        if change < 0:
            # those not ready first, then the youngest
            order = sorted(staying, key=lambda worker: (worker in readings, -_ordinal(worker)))
            for worker in order[:-change]:
                self._drain(worker)

    def _readings(self, workers: list[str], metric: str) -> dict[str, float]:
        """Read the metric of every worker that is ready."""
        flying = by_endpoint(self._stack.router.page(), "windtunnel_router_in_flight")
        found = {worker: flying[worker] for worker in workers if worker in flying}
        if metric == "in_flight":
            return found
        pages = {worker: gauges(self._stack.workers[worker].page()) for worker in found}
        return {worker: page[_GAUGES[metric]] for worker, page in pages.items() if _GAUGES[metric] in page}

    def _add(self, name: str) -> None:
        worker = self._stack.add_worker(name)
        self._since[worker.name] = time.monotonic() - self._zero
        pool = self._stack.pools[name]
        has_image = _ordinal(worker.name) // pool.replicas_per_node in self._has_image[name]
        cold_start = cold_start_of(pool).seconds(has_image=has_image, is_new=True)
        wait = max(0.0, cold_start - self._starting_seconds)
        self._agenda.enter(wait, 1, self._begin, (worker.name,))

    def _begin(self, worker: str) -> None:
        if worker in self._draining:
            return
        pool = worker.rpartition("-")[0]
        self._has_image[pool].add(_ordinal(worker) // self._stack.pools[pool].replicas_per_node)
        self._crew.start(self._stack.workers[worker])
        self._stack.list_workers(leaving=self._draining)
        self._look(worker)

    def _look(self, worker: str) -> None:
        """Note when a new worker serves."""
        process = self._stack.workers.get(worker)
        if process is None or not process.is_running:
            return
        if process.state() == "ready":
            self._note("replica_ready", worker, "cold start over")
        else:
            self._agenda.enter(LOOK_SECONDS, 1, self._look, (worker,))

    def _drain(self, worker: str) -> None:
        self._draining.add(worker)
        self._stack.list_workers(leaving=self._draining)
        self._agenda.enter(2 * LOOK_SECONDS, 1, self._remove_when_done, (worker,))

    def _remove_when_done(self, worker: str) -> None:
        flying = by_endpoint(self._stack.router.page(), "windtunnel_router_in_flight")
        if not flying or worker in flying:
            self._agenda.enter(LOOK_SECONDS, 1, self._remove_when_done, (worker,))
            return
        self._crew.stop([self._stack.workers[worker]])
        self._stack.remove_worker(worker)
        self._draining.discard(worker)
        pool = worker.rpartition("-")[0]
        self._spent[pool] = self._spent.get(pool, 0.0) + time.monotonic() - self._zero - self._since.pop(worker)
        self._note("replica_removed", worker, "drained and removed")

    def _note(self, kind: str, target: str, about: str) -> None:
        at = time.monotonic() - self._zero
        self.events.append({"at": at, "kind": kind, "target": target, "lasts": None, "about": about})


def _policy_settings(settings: Autoscale) -> AutoscalerSettings:
    return AutoscalerSettings(
        min_replicas=settings.min_replicas,
        max_replicas=settings.max_replicas,
        target=settings.target,
        tolerance=settings.tolerance,
        stabilisation_seconds=settings.stabilisation,
    )


def _ordinal(worker: str) -> int:
    return int(worker.rpartition("-")[2])
