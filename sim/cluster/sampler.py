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
        clock.every(interval, Turn.SAMPLE, self._sample, first=0.0)

    def _sample(self, now: float) -> None:
        add = self._samples.append
        self.instants.append(now)
        for replica in self._fleet.by_name.values():
            if replica.is_ready:
                running, waiting, kv_usage = replica.engine.gauges(now)
                component = replica.component
                add((now, component, "running", float(running)))
                add((now, component, "queue_depth", float(waiting)))
                add((now, component, "kv_usage", kv_usage))
        for squad in self._fleet.squads:
            add((now, squad.component, "ready", float(squad.num_ready)))
        add((now, "router", "queue", float(self._router.num_queued)))
        add((now, "router", "in_flight", float(self._router.num_in_flight)))
        if self._progress is not None:
            flown = min(1.0, now / self._duration)
            if flown >= self._reported + PROGRESS_STEP:
                self._reported = flown
                self._progress(flown)


def gateway_samples(recorder: Recorder, instants: list[float], hop: float) -> list[tuple[float, str, str, float]]:
    """Count the requests that were at the gateway or behind it at each instant, from the rows of the requests."""
    sent, ended = np.array(recorder.sent), np.array(recorder.ended)
    entered, has_left = sent + hop, ended >= 0
    left = np.maximum(ended[has_left] - hop, entered[has_left])
    came = np.searchsorted(np.sort(entered[~np.isnan(sent)]), instants, side="right")
    went = np.searchsorted(np.sort(left), instants, side="right")
    counts = (came - went).tolist()
    return [(now, "gateway", "in_flight", float(count)) for now, count in zip(instants, counts, strict=True)]
