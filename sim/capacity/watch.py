"""Watches a flight and cuts it short once it is certain to miss an SLO, whatever the rest of it would bring.

Certain means: with every request that is not decided yet taken for good, the bounds still say that a class fails. What
fails clearly is then decided after a fifth of a flight, and most candidates that a search flies fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan

from sim.capacity.decide import BLOCK_SECONDS, ClassCounts, Finding, judge
from sim.cluster.recorder import OK, Recorder
from sim.experiment.schema import Slo
from sim.experiment.workload import Workload, WorkloadRequest


class Watch:
    """Follows the rows of one flight; asked now and then, it says whether to end it. `is_certain` afterwards."""

    def __init__(self, workload: Workload, slos: Mapping[str, Slo], warm_up: float) -> None:
        self._requests = workload.requests
        self._slos = slos
        self._next = next((r.index for r in workload.requests if r.scheduled >= warm_up), len(workload.requests))
        self._open: list[WorkloadRequest] = []
        self._totals: dict[str, dict[int, int]] = {name: {} for name in slos}
        self._bad: dict[str, dict[int, int]] = {name: {} for name in slos}
        self._decided = dict.fromkeys(slos, 0)
        self.is_certain = False
        for request in workload.requests[self._next :]:
            if request.scheduled < workload.duration_seconds:
                _count(self._totals[request.traffic_class], request)

    def __call__(self, recorder: Recorder, now: float) -> bool:
        """Look at the rows that were open; say whether the verdict is certain."""
        while self._next < len(self._requests) and self._requests[self._next].scheduled <= now:
            self._open.append(self._requests[self._next])
            self._next += 1
        still = []
        for request in self._open:
            is_good = _is_good(request, self._slos[request.traffic_class], recorder, now)
            if is_good is None:
                still.append(request)
                continue
            self._decided[request.traffic_class] += 1
            if not is_good:
                _count(self._bad[request.traffic_class], request)
        self._open = still
        self.is_certain = any(judge([self.counts(name)]) is Finding.FAILS for name in self._slos)
        return self.is_certain

    def counts(self, name: str, broken: tuple[tuple[str, int], ...] = ()) -> ClassCounts:
        """Return the counts of a class, what is undecided taken for good."""
        bad, decided = self._bad[name], self._decided[name]
        minutes = tuple((total - bad.get(at, 0), total) for at, total in sorted(self._totals[name].items()))
        flown = (decided - sum(bad.values()), decided)
        return ClassCounts(name, self._slos[name].attainment, minutes, broken, flown)


def _count(minutes: dict[int, int], request: WorkloadRequest) -> None:
    minute = int(request.scheduled // BLOCK_SECONDS)
    minutes[minute] = minutes.get(minute, 0) + 1


def _is_good(request: WorkloadRequest, slo: Slo, recorder: Recorder, now: float) -> bool | None:
    """Judge a request as `sim.experiment.slo.good` would; None while that depends on what is still to come."""
    at = request.index
    status, first = recorder.status[at], recorder.first_token[at]
    if status and status != OK:
        return False
    ttft = (now if isnan(first) else first) - request.scheduled
    if slo.ttft is not None and ttft > slo.ttft:
        return False
    if not status:
        return False if slo.e2e is not None and now - request.scheduled > slo.e2e else None
    if slo.e2e is not None and recorder.ended[at] - request.scheduled > slo.e2e:
        return False
    followed = recorder.output_tokens[at] - 1
    return slo.tpot is None or followed < 1 or recorder.last_token[at] - first <= slo.tpot * followed
