"""The timeline: what every part of the cluster looks like at each sample instant, once all else of it has happened.

Sees the truth, which no policy does. What can be told from the rows of the requests is told from them, after landing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sim.cluster.clock import Clock, Turn
from sim.cluster.fleet import Fleet
from sim.cluster.recorder import Recorder
from sim.cluster.router import Router

PROGRESS_STEP = 0.01


class Sampler:
    """Looks at the cluster each `interval` from zero on, until the flight ends, and reports progress."""

    def __init__(
        self,
        *,
        clock: Clock,
        fleet: Fleet,
        router: Router,
        recorder: Recorder,
        interval: float,
        duration: float,
        progress: Callable[[float], None] | None,
    ) -> None:
        self._fleet = fleet
        self._router = router
        self._samples = recorder.samples
        self._progress = progress
        self._duration = max(duration, interval)
        self._reported = 0.0
        self.instants: list[float] = []
        self._replicas: dict[str, tuple[list[float], list[float], list[float], list[float]]] = {}
        """By component: the instants at which it was seen, and running, queue depth and KV usage at them."""
        self._ready = [self._begin(squad.component, "ready") for squad in fleet.squads]
        self._queue = self._begin("router", "queue")
        models = [*router.queued_by_model]
        self._queue_of = {model: self._begin("router", f"queue of {model}") for model in models if len(models) > 1}
        self._in_flight = self._begin("router", "in_flight")
        clock.every(interval, Turn.SAMPLE, self._sample, first=0.0)

    def _sample(self, now: float) -> None:
        self.instants.append(now)
        for replica in self._fleet.by_name.values():
            if replica.is_ready:
                columns = self._replicas.get(replica.component) or self._begin_replica(replica.component)
                running, waiting, kv_usage = replica.engine.gauges(now)
                columns[0].append(now)
                columns[1].append(running)
                columns[2].append(waiting)
                columns[3].append(kv_usage)
        for squad, ready in zip(self._fleet.squads, self._ready, strict=True):
            ready.append(squad.num_ready)
        router = self._router
        self._queue.append(router.num_queued)
        if self._queue_of:
            for model, count in router.queued_by_model.items():
                self._queue_of[model].append(count)
        self._in_flight.append(router.num_in_flight)
        if self._progress is not None:
            flown = min(1.0, now / self._duration)
            if flown >= self._reported + PROGRESS_STEP:
                self._reported = flown
                self._progress(flown)

    def _begin(self, component: str, measure: str) -> list[float]:
        """Begin a series that has a value at each instant; give its values."""
        values: list[float] = []
        self._samples.add(component, measure, self.instants, values)
        return values

    def _begin_replica(self, component: str) -> tuple[list[float], list[float], list[float], list[float]]:
        instants: list[float] = []
        columns: tuple[list[float], list[float], list[float], list[float]] = (instants, [], [], [])
        self._replicas[component] = columns
        for measure, values in zip(("running", "queue_depth", "kv_usage"), columns[1:], strict=True):
            self._samples.add(component, measure, instants, values)
        return columns


def in_flight_at_the_gateway(recorder: Recorder, instants: list[float], hop: float) -> list[float]:
    """Count the requests that were at the gateway or behind it at each instant, from the rows of the requests."""
    sent, ended = np.array(recorder.sent), np.array(recorder.ended)
    entered, has_left = sent + hop, ended >= 0
    left = np.maximum(ended[has_left] - hop, entered[has_left])
    came = np.searchsorted(np.sort(entered[~np.isnan(sent)]), instants, side="right")
    went = np.searchsorted(np.sort(left), instants, side="right")
    counts: list[float] = (came - went).tolist()
    return counts
