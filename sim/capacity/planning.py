"""A plan: the search over a scenario's space, and its answer in one sentence with what stands behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from sim.capacity.crew import Crew, Fly, Hands
from sim.capacity.headroom import Headroom, headroom
from sim.capacity.journal import Journal
from sim.capacity.probing import Flyer, Prober, build
from sim.capacity.search import PREFILL_REPLICAS, Candidate, Evidence, Option, Probe, Search, Skipped
from sim.capacity.space import space_of, with_candidate
from sim.experiment.disaggregation import with_prefill
from sim.experiment.errors import InputError
from sim.experiment.scenario import LoadedScenario

SEARCH_SEEDS = (0, 1, 2)
FRESH_SEEDS = (1001, 1002)


@dataclass(slots=True)
class Answer:
    """What a plan found. `best` is None when nothing in the space meets the SLOs."""

    loaded: LoadedScenario
    best: Evidence | None
    flown: list[Evidence]
    skipped: list[Skipped]
    options: tuple[Option, ...]
    lost: int
    num_flights: int
    minimise: str
    headroom: Headroom | None = None

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        if self.best is None:
            return "Nothing in the space meets the SLOs; the closest is in the table."
        candidate = self.best.candidate
        pool = self.loaded.scenario.cluster.pools[0]
        spare = f", with {self.lost} replica to spare" if self.lost else ""
        shares = ", ".join(f"{name} {share:.2%}" for name, share in self.best.attainment.items())
        what = candidate.option.label or "as the scenario has it"
        noun, verb = ("replica", "meets") if candidate.replicas == 1 else ("replicas", "meet")
        flown = with_candidate(self.loaded, candidate).scenario.cluster.pools[0]
        if flown.disaggregated is not None and PREFILL_REPLICAS not in dict(candidate.option.settings):
            what = f"{what}, {flown.disaggregated.prefill_replicas} for prefill"
        return (
            f"{candidate.replicas} {noun} of {pool.model} on {what}{spare} {verb} every SLO ({shares} good) "
            f"for {self._price(candidate)}."
        )

    @property
    def binding(self) -> str:
        """Which SLO the cheapest answer with one replica less breaks most, in words."""
        less = [e for e in self.flown if self.best and e.candidate.option == self.best.candidate.option]
        below = max(
            (e for e in less if self.best and e.candidate.replicas < self.best.candidate.replicas),
            key=lambda e: e.candidate.replicas,
            default=None,
        )
        if below is None:
            return "Even the smallest number that could serve the mean load meets every SLO."
        counts: dict[tuple[str, str], int] = {}
        for probe in below.probes:
            for kind in probe.classes:
                for slo, broken in kind.broken:
                    counts[kind.name, slo] = counts.get((kind.name, slo), 0) + broken
        (name, slo), _ = max(counts.items(), key=lambda item: item[1])
        what = "loses requests" if slo == "lost" else f"breaks its {slo.upper()}"
        return f"With {below.candidate.replicas}, {name} {what} first."

    @property
    def headroom_sentence(self) -> str:
        """How much more traffic the answer bears, and what breaks first; empty where that was not asked."""
        if self.headroom is None:
            return ""
        more = self.headroom.factor - 1
        if self.headroom.broken_at is None:
            return f"It bears more than {more:.0%} more traffic; nothing that was tried broke it."
        bears = f"It bears {more:.0%} more traffic" if more else "It bears no more traffic"
        return f"{bears}; at {self.headroom.broken_at - 1:.0%} more, {self.headroom.breaks}."

    def _price(self, candidate: Candidate) -> str:
        return f"{candidate.price:g} GPUs" if self.minimise == "gpus" else f"${candidate.price:.2f} an hour"

    def _gpus(self, candidate: Candidate) -> int:
        pool = with_candidate(self.loaded, candidate).scenario.cluster.pools[0]
        return sum(each.replicas * each.num_gpus for each in with_prefill([pool]))

    def rows(self) -> list[dict[str, Any]]:
        """Return the flown candidates, cheapest first, as rows for a table."""
        return [
            {
                "option": evidence.candidate.option.label,
                "replicas": evidence.candidate.replicas,
                "price": evidence.candidate.price,
                "attainment": evidence.attainment,
                "finding": evidence.finding.value,
                "is_close": evidence.is_close,
                "flights": len(evidence.probes),
                "perfect_replicas": evidence.candidate.option.min_replicas,
                "gpus": self._gpus(evidence.candidate),
                "is_best": self.best is not None and evidence.candidate == self.best.candidate,
                **evidence.probes[0].figures,
            }
            for evidence in sorted(self.flown, key=lambda e: (e.candidate.price, e.candidate.option.label))
        ]


def plan(
    loaded: LoadedScenario,
    *,
    lost: int = 0,
    journal_path: Path | None = None,
    told: Callable[[Candidate, Probe, int], None] = lambda candidate, probe, flights: None,
    call: Callable[[Fly], Hands] | None = None,
    within: float = 1.0,
    with_headroom: bool = False,
) -> Answer:
    """Search the scenario's space for the cheapest candidate that meets every SLO with `lost` replicas gone.

    `told(candidate, probe, flights so far)` hears of every flight; `call` gets hands to fly several at a time, and
    changes nothing but the time it takes. Options are followed up to `within` times the price of the best one.

    Raises:
        InputError: the space is not one, or no class has an SLO.
    """
    scenario = loaded.scenario
    if not any(v is not None for k in scenario.workload.classes for v in (k.slo.ttft, k.slo.tpot, k.slo.e2e)):
        raise InputError(f"{loaded.path}: no class has an SLO; a plan needs one to meet, such as slo: {{ttft: 500ms}}")
    workload = build(loaded)
    space = space_of(loaded, workload)
    fingerprint = sha256(f"{workload.content_hash}{scenario.model_dump_json()}".encode()).hexdigest()[:16]
    journal = Journal(journal_path, fingerprint) if journal_path is not None else None

    def flight(candidate: Candidate, seed: int) -> Probe:
        probe = prober(candidate, seed)
        told(candidate, probe, prober.num_flights)
        return probe

    first = scenario.seed
    flyer = Flyer(loaded, workload, lost)
    with Crew(flyer, call) as crew:
        prober = Prober(crew, lost, journal)
        search = Search(flight, [first + s for s in SEARCH_SEEDS], [first + s for s in FRESH_SEEDS], prober.expect)
        best = search.run(space.options, within)
    minimise = scenario.plan.minimise if scenario.plan else "cost_per_hour"
    skipped = [*space.skipped, *search.skipped]
    flown = list(search.flown.values())
    answer = Answer(loaded, best, flown, skipped, space.options, lost, prober.num_flights, minimise)
    if best is not None and with_headroom:
        candidate = best.candidate
        answer.headroom = headroom(lambda factor: flyer.at_rate(candidate, factor))
    return answer
