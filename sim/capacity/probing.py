"""One flight of a candidate, reduced to what decides: good and all requests of each class by minute, and figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sim.capacity.crew import Crew, Key
from sim.capacity.decide import ClassCounts
from sim.capacity.journal import Journal
from sim.capacity.search import Candidate, Probe
from sim.capacity.space import with_candidate
from sim.cluster import fly
from sim.experiment.columns import requests_of
from sim.experiment.generate import build_workload, content_hash
from sim.experiment.record import RunRecord
from sim.experiment.scenario import LoadedScenario
from sim.experiment.schema import Pool, Slo
from sim.experiment.slo import good, slos_of
from sim.experiment.streams import stream
from sim.experiment.workload import Workload

BLOCK_SECONDS = 60.0


@dataclass(slots=True)
class Flyer:
    """Flies candidates of one scenario; the workload of a seed is made once and flown through every candidate.

    The scenario's own seed flies the workload as it is. Every other one deals the lengths out anew among the requests
    of each minute: the shape of the stream stays, which request is long and which is short changes.
    """

    loaded: LoadedScenario
    workload: Workload
    lost: int = 0
    """Replicas that must be dispensable: each candidate is flown without so many."""
    _workloads: dict[int, Workload] = field(default_factory=dict)

    def __call__(self, candidate: Candidate, seed: int) -> Probe:
        """Fly a candidate."""
        if candidate.replicas <= self.lost:
            return self._nothing_left(seed)
        return self._fly(candidate, seed, self._of(seed))

    def at_rate(self, candidate: Candidate, factor: float) -> Probe:
        """Fly a candidate under the scenario's seed with its workload in `factor` times less time."""
        return self._fly(candidate, self.loaded.scenario.seed, hastened(self.workload, factor))

    def _fly(self, candidate: Candidate, seed: int, workload: Workload) -> Probe:
        loaded = with_candidate(self.loaded, candidate, self.lost)
        record = fly(loaded, workload, seed=seed)
        requests = requests_of(record)
        window = (requests.scheduled >= record.warm_up_seconds) & (requests.scheduled < record.duration_seconds)
        slos = slos_of(loaded.scenario.workload.classes)
        is_good = good(requests, slos)
        minute = (requests.scheduled // BLOCK_SECONDS).astype(int)
        classes = []
        for name, slo in slos.items():
            ours = window & (requests.traffic_class == name)
            counts = np.bincount(minute[ours], minlength=1)
            goods = np.bincount(minute[ours & is_good], minlength=len(counts))
            minutes = tuple((int(g), int(n)) for g, n in zip(goods, counts, strict=True) if n)
            classes.append(ClassCounts(name, slo.attainment, minutes, _broken(requests.where(ours), slo)))
        return Probe(seed, tuple(classes), _figures(record, loaded.scenario.cluster.pools[0], requests, window))

    def _of(self, seed: int) -> Workload:
        if seed == self.loaded.scenario.seed:
            return self.workload
        if seed not in self._workloads:
            self._workloads[seed] = reshuffled(self.workload, seed)
        return self._workloads[seed]

    def _nothing_left(self, seed: int) -> Probe:
        total = len(self.workload.requests)
        slos = slos_of(self.loaded.scenario.workload.classes)
        return Probe(seed, tuple(ClassCounts(name, slo.attainment, ((0, total),)) for name, slo in slos.items()))


@dataclass(slots=True)
class Prober:
    """Gives the flights a search asks for: from the journal, or by its crew, noted down at once."""

    crew: Crew
    lost: int = 0
    journal: Journal | None = None
    num_flights: int = 0
    """Asked for and not in the journal."""

    def __call__(self, candidate: Candidate, seed: int) -> Probe:
        """Fly a candidate, or take the flight from the journal."""
        known = None if self.journal is None else self.journal.recall(candidate, seed, self.lost)
        if known is not None:
            return known
        self.num_flights += 1
        probe = self.crew.fly(candidate, seed)
        if self.journal is not None:
            self.journal.note(candidate, seed, self.lost, probe)
        return probe

    def expect(self, keys: Iterable[Key]) -> None:
        """Let the crew fly ahead what the journal does not know."""
        self.crew.expect(
            (candidate, seed)
            for candidate, seed in keys
            if self.journal is None or self.journal.recall(candidate, seed, self.lost) is None
        )


def reshuffled(workload: Workload, seed: int) -> Workload:
    """Deal the lengths and prompts of a workload out anew among the requests of each minute and class."""
    random = stream(seed, "reshuffle")
    places: dict[tuple[str, str, int], list[int]] = {}
    for place, request in enumerate(workload.requests):
        key = (request.model, request.traffic_class, int(request.scheduled // BLOCK_SECONDS))
        places.setdefault(key, []).append(place)
    requests = list(workload.requests)
    for block in places.values():
        for place, other in zip(block, random.permutation(len(block)), strict=True):
            source = workload.requests[block[int(other)]]
            if source.session or workload.requests[place].session:
                continue  # the turns of a session belong together
            requests[place] = replace(
                requests[place],
                input_tokens=source.input_tokens,
                output_tokens=source.output_tokens,
                prompt=source.prompt,
            )
    return replace(workload, requests=tuple(requests), content_hash=content_hash(requests))


def hastened(workload: Workload, factor: float) -> Workload:
    """Return a workload that passes in `factor` times less time."""
    requests = tuple(replace(request, scheduled=request.scheduled / factor) for request in workload.requests)
    return replace(
        workload,
        requests=requests,
        duration_seconds=workload.duration_seconds / factor,
        content_hash=content_hash(requests),
    )


def build(loaded: LoadedScenario) -> Workload:
    """Return the workload that a plan is made for."""
    return build_workload(loaded)


def _broken(requests: Any, slo: Slo) -> tuple[tuple[str, int], ...]:
    """Count the requests that broke each SLO; `lost` are those that did not succeed."""
    counts = {"lost": int((~requests.is_ok).sum())}
    for name, values in (("ttft", requests.ttft), ("tpot", requests.tpot), ("e2e", requests.e2e)):
        bound = getattr(slo, name)
        if bound is not None:
            counts[name] = int((requests.is_ok & (values > bound)).sum())
    return tuple(counts.items())


def _figures(record: RunRecord, pool: Pool, requests: Any, window: Any) -> dict[str, float]:
    ok = window & requests.is_ok
    seconds = float(requests.scheduled[window].max() - requests.scheduled[window].min()) if window.any() else 1.0
    tpot = requests.tpot[ok]
    tpot = tpot[~np.isnan(tpot)]
    output = float(requests.output_tokens[ok].sum())
    peaks = {"kv_usage": 0.0, "running": 0.0}
    for _, _, measure, value in record.samples:
        if measure in peaks and value > peaks[measure]:
            peaks[measure] = value
    return {
        "output_tokens_per_second": output / max(seconds, 1e-9),
        "tokens_per_second_per_user": 1.0 / float(np.median(tpot)) if len(tpot) else 0.0,
        "ttft_p95": float(np.nanquantile(requests.ttft[ok], 0.95)) if ok.any() else float("nan"),
        "peak_kv_usage": peaks["kv_usage"],
        "peak_seats": peaks["running"] / pool.max_num_seqs,
        "preemptions": float(sum(counters["preemptions"] for counters in record.facts["engine"].values())),
    }
