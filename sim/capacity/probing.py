"""One flight of a candidate, reduced to what decides: good and all requests of each class by minute, and figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sim.capacity.crew import Crew, Key
from sim.capacity.decide import BLOCK_SECONDS, ClassCounts
from sim.capacity.journal import Journal
from sim.capacity.search import Candidate, Probe
from sim.capacity.space import NO_SPARE, Spare, pool_of, with_candidates
from sim.capacity.watch import Watch
from sim.capacity.workloads import hastened, of_model, reshuffled
from sim.cluster import fly
from sim.experiment.columns import Bools, Requests, requests_of
from sim.experiment.record import RunRecord
from sim.experiment.scenario import LoadedScenario
from sim.experiment.schema import Pool, Slo
from sim.experiment.slo import good, slos_of
from sim.experiment.workload import Workload

SAMPLES = 400
"""Of a flight: a plan wants its peaks and no timeline."""


@dataclass(slots=True)
class Flyer:
    """Flies candidates of one scenario; the workload of a seed is made once and flown through every candidate.

    The scenario's own seed flies the workload as it is. Every other one deals the lengths out anew among the requests
    of each minute: the shape of the stream stays, which request is long and which is short changes. Of several pools a
    candidate's gets its requests alone; `together` flies all of them.
    """

    loaded: LoadedScenario
    workload: Workload
    spare: Spare = NO_SPARE
    """What must be dispensable: each candidate is flown without it."""
    _workloads: dict[tuple[int, str | None], Workload] = field(default_factory=dict)

    def __call__(self, candidate: Candidate, seed: int) -> Probe:
        """Fly a candidate."""
        pools = self.loaded.scenario.cluster.pools
        workload = self._of(seed, pools[candidate.option.pool].model if len(pools) > 1 else None)
        return self._fly((candidate,), seed, workload)

    def together(self, candidates: Sequence[Candidate], seed: int) -> Probe:
        """Fly the whole workload through the whole cluster, a candidate for each pool that is varied."""
        return self._fly(candidates, seed, self._of(seed, None))

    def at_rate(self, candidates: Sequence[Candidate], factor: float) -> Probe:
        """Fly candidates under the scenario's seed with the workload in `factor` times less time."""
        return self._fly(candidates, self.loaded.scenario.seed, hastened(self.workload, factor))

    def lost(self, candidate: Candidate) -> int:
        """Return how many replicas a candidate is flown without."""
        return self.spare.of(pool_of(self.loaded, candidate.option))

    def _fly(self, candidates: Sequence[Candidate], seed: int, workload: Workload) -> Probe:
        slos = self._slos(workload)
        if any(candidate.replicas <= self.lost(candidate) for candidate in candidates):
            return _nothing_left(seed, slos, workload)
        loaded = _thinly_sampled(with_candidates(self.loaded, candidates, self.spare), workload)
        watch = Watch(workload, slos, loaded.scenario.measure.warm_up)
        record = fly(loaded, workload, seed=seed, until=watch)
        requests = requests_of(record)
        seen = (requests.scheduled >= record.warm_up_seconds) & (requests.scheduled < record.duration_seconds)
        if watch.is_certain:
            seen &= requests.status != ""
            classes = [watch.counts(name, _broken(_class(requests, name, seen), slo)) for name, slo in slos.items()]
        else:
            is_good = good(requests, slos)
            classes = [_counts(requests, name, slo, seen, is_good) for name, slo in slos.items()]
        pool = loaded.scenario.cluster.pools[candidates[0].option.pool]
        return Probe(seed, tuple(classes), _figures(record, pool, requests, seen), watch.is_certain)

    def _slos(self, workload: Workload) -> dict[str, Slo]:
        """Return the SLOs of the classes that come; all, where none does."""
        slos = slos_of(self.loaded.scenario.workload.classes)
        come = {request.traffic_class for request in workload.requests}
        return {name: slo for name, slo in slos.items() if name in come} or slos

    def _of(self, seed: int, model: str | None) -> Workload:
        if (seed, model) not in self._workloads:
            if model is not None:
                made = of_model(self._of(seed, None), model)
            elif seed == self.loaded.scenario.seed:
                made = self.workload
            else:
                made = reshuffled(self.workload, seed)
            self._workloads[seed, model] = made
        return self._workloads[seed, model]


@dataclass(slots=True)
class Prober:
    """Gives the flights a search asks for: from the journal, or by its crew, noted down at once."""

    crew: Crew
    flyer: Flyer
    journal: Journal | None = None
    num_flights: int = 0
    """Asked for and not in the journal."""

    def __call__(self, candidate: Candidate, seed: int) -> Probe:
        """Fly a candidate, or take the flight from the journal."""
        lost = self.flyer.lost(candidate)
        known = None if self.journal is None else self.journal.recall(candidate, seed, lost)
        if known is not None:
            return known
        self.num_flights += 1
        probe = self.crew.fly(candidate, seed)
        if self.journal is not None:
            self.journal.note(candidate, seed, lost, probe)
        return probe

    def expect(self, keys: Iterable[Key]) -> None:
        """Let the crew fly ahead what the journal does not know."""
        self.crew.expect(
            (candidate, seed)
            for candidate, seed in keys
            if self.journal is None or self.journal.recall(candidate, seed, self.flyer.lost(candidate)) is None
        )


def _thinly_sampled(loaded: LoadedScenario, workload: Workload) -> LoadedScenario:
    measure = loaded.scenario.measure
    interval = max(measure.sample_interval, workload.duration_seconds / SAMPLES)
    thin = measure.model_copy(update={"sample_interval": interval})
    return replace(loaded, scenario=loaded.scenario.model_copy(update={"measure": thin}))


def _nothing_left(seed: int, slos: dict[str, Slo], workload: Workload) -> Probe:
    total = len(workload.requests)
    return Probe(seed, tuple(ClassCounts(name, slo.attainment, ((0, total),)) for name, slo in slos.items()))


def _class(requests: Requests, name: str, seen: Bools) -> Requests:
    return requests.where(seen & (requests.traffic_class == name))


def _counts(requests: Requests, name: str, slo: Slo, seen: Bools, is_good: Bools) -> ClassCounts:
    ours = seen & (requests.traffic_class == name)
    minute = (requests.scheduled // BLOCK_SECONDS).astype(int)
    counts = np.bincount(minute[ours], minlength=1)
    goods = np.bincount(minute[ours & is_good], minlength=len(counts))
    minutes = tuple((int(g), int(n)) for g, n in zip(goods, counts, strict=True) if n)
    return ClassCounts(name, slo.attainment, minutes, _broken(requests.where(ours), slo))


def _broken(requests: Requests, slo: Slo) -> tuple[tuple[str, int], ...]:
    """Count the requests that broke each SLO; `lost` are those that did not succeed."""
    counts = {"lost": int((~requests.is_ok).sum())}
    for name, values in (("ttft", requests.ttft), ("tpot", requests.tpot), ("e2e", requests.e2e)):
        bound = getattr(slo, name)
        if bound is not None:
            counts[name] = int((requests.is_ok & (values > bound)).sum())
    return tuple(counts.items())


def _figures(record: RunRecord, pool: Pool, requests: Any, window: Bools) -> dict[str, float]:
    ok = window & requests.is_ok
    seconds = float(requests.scheduled[window].max() - requests.scheduled[window].min()) if window.any() else 1.0
    tpot = requests.tpot[ok]
    tpot = tpot[~np.isnan(tpot)]
    output = float(requests.output_tokens[ok].sum())
    peaks = {"kv_usage": 0.0, "running": 0.0}
    for _, measure, _, values in record.samples.series():
        if measure in peaks:
            peaks[measure] = max(peaks[measure], *values)
    return {
        "output_tokens_per_second": output / max(seconds, 1e-9),
        "tokens_per_second_per_user": 1.0 / float(np.median(tpot)) if len(tpot) else 0.0,
        "ttft_p95": float(np.nanquantile(requests.ttft[ok], 0.95)) if ok.any() else 0.0,
        "peak_kv_usage": peaks["kv_usage"],
        "peak_seats": peaks["running"] / pool.max_num_seqs,
        "preemptions": float(sum(counters["preemptions"] for counters in record.facts["engine"].values())),
    }
