"""The search for the cheapest candidate that meets every SLO: bound, bracket, bisect, verify.

Refuses to know what a flight is: a probe is a function from a candidate and a seed to counts. Replicas are searched
under the assumption that one more never makes it worse, which each answer checks at its own edge: the candidate with
one replica less was flown and failed, or is below the bound of a perfect system.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from sim.capacity.decide import ClassCounts, Finding, judge, point_meets
from sim.experiment.vary import Settings

SHORT = {
    "max_num_seqs": "seats",
    "max_num_batched_tokens": "budget",
    "kv_cache": "KV",
    "max_in_flight_per_endpoint": "in flight",
    "prefill_replicas": "prefill",
    "pipeline_parallel": "PP",
    "data_parallel": "DP",
    "expert_parallel": "EP",
}
"""Names of settings that are too long for a label."""


@dataclass(frozen=True, slots=True)
class Option:
    """Everything about a candidate but its number of replicas, and what one replica costs."""

    settings: Settings
    price_per_replica: float
    """What is minimised, per replica: an hour's price, or GPUs."""
    min_replicas: int
    """What even a perfect system needs, or the smallest number asked about."""
    max_replicas: int
    pool: int = 0
    """Whose option it is: the pool's place in the scenario."""
    gpus: int = 1
    """Of one replica."""
    perfect: int = 1
    """Replicas that even a perfect system needs, those to spare included."""
    telling: tuple[str, ...] | None = None
    """The keys that tell it from other options; None: all of them."""
    price_beside: float = 0.0
    """Of what is there however many replicas there are: those that compute prompts for them."""
    gpus_beside: int = 0

    def __hash__(self) -> int:
        return hash((self.pool, repr(self.settings)))  # a value may be a mapping

    @property
    def label(self) -> str:
        """The settings in words, such as `h100-sxm, TP 2`."""
        told = [(key, value) for key, value in self.settings if self.telling is None or key in self.telling]
        told += [(key, value) for key, value in self.settings if key == "gpu" and (key, value) not in told]
        return ", ".join(_in_words(key, value) for key, value in sorted(told, key=lambda one: one[0] != "gpu"))

    @property
    def perfect_price(self) -> float:
        """What a perfect system would cost."""
        return Candidate(self, self.perfect).price


def _in_words(key: str, value: Any) -> str:
    if key == "tensor_parallel":
        return f"TP {value}"
    if isinstance(value, Mapping):
        value = value.get("name") or " ".join(map(str, value.values()))
    if key in ("gpu", "engine", "policy"):
        return str(value)
    if value is None or isinstance(value, bool):
        value = {True: "on", False: "off", None: "none"}[value]
    last = key.rpartition(".")[2]
    return f"{SHORT.get(last, last).replace('_', ' ')} {value}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An option with a number of replicas."""

    option: Option
    replicas: int

    @property
    def price(self) -> float:
        """What is minimised."""
        return self.replicas * self.option.price_per_replica + self.option.price_beside

    @property
    def gpus(self) -> int:
        """Of all its replicas."""
        return self.replicas * self.option.gpus + self.option.gpus_beside


@dataclass(frozen=True, slots=True)
class Probe:
    """What one flight of a candidate gave."""

    seed: int
    classes: tuple[ClassCounts, ...]
    figures: Mapping[str, float] = field(default_factory=dict)
    """Speed and cost of the flight, for the frontier."""
    is_cut: bool = False
    """The flight ended early, because it was certain that an SLO is missed."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All flights of a candidate and what they add up to."""

    candidate: Candidate
    probes: tuple[Probe, ...]
    finding: Finding
    is_close: bool = False
    """The bounds never parted from the target; the point estimate decided."""

    @property
    def attainment(self) -> dict[str, float]:
        """Attainment by class over all flights; of flights that were cut short, over what had been flown."""
        return attainment_of(self.probes)


def attainment_of(probes: Sequence[Probe]) -> dict[str, float]:
    """Return the attainment by class over flights of the same classes."""
    shares = {}
    for position, counts in enumerate(probes[0].classes):
        flown = [probe.classes[position].seen for probe in probes]
        total = sum(total for _, total in flown)
        shares[counts.name] = sum(good for good, _ in flown) / total if total else 1.0
    return shares


@dataclass(frozen=True, slots=True)
class Skipped:
    """An option that was not flown, and why."""

    option: Option
    reason: str


@dataclass(slots=True)
class Search:
    """One search. Lives from `run` to its answer; `flown` holds every candidate that was judged.

    `fly(candidate, seed)` must give the same probe for the same arguments (common random numbers across candidates).
    """

    fly: Callable[[Candidate, int], Probe]
    seeds: Sequence[int]
    fresh_seeds: Sequence[int] = ()
    """Seeds that only the verification of the answer sees."""
    expect: Callable[[Iterable[tuple[Candidate, int]]], None] = lambda keys: None
    """Told, before each flight that is asked for, which ones will probably follow, the likeliest first."""
    flown: dict[Candidate, Evidence] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)

    def run(self, options: Sequence[Option], within: float = 1.0) -> Evidence | None:
        """Return the evidence for the cheapest candidate that meets every SLO; None when none does.

        `within`: the cheapest of an option is looked for up to so many times the best price so far, for comparison.
        """
        best: Evidence | None = None
        for option in sorted(
            options, key=lambda option: (Candidate(option, option.min_replicas).price, repr(option.settings))
        ):
            limit = best.candidate.price * within if best else inf
            found = self._cheapest_of(option, limit)
            if found is None or (best is not None and found.candidate.price >= best.candidate.price):
                continue
            while found is not None and (verified := self._verified(found)) is not found:
                found = verified
            if found is not None and (best is None or found.candidate.price < best.candidate.price):
                best = found
        return best

    def _cheapest_of(self, option: Option, limit: float) -> Evidence | None:
        """Find the fewest replicas of an option that meet the SLOs at a price below `limit`."""
        most = option.max_replicas
        while most >= 1 and Candidate(option, most).price >= limit:
            most -= 1
        if most < option.min_replicas:
            why = (
                "even a perfect system would need more than was asked about"
                if limit == inf
                else "costs too much against the best so far"
            )
            self.skipped.append(Skipped(option, why))
            return None
        low, best = option.min_replicas - 1, None
        steps = list(_doubling(option.min_replicas, most))
        for position, replicas in enumerate(steps):
            evidence = self.judge(Candidate(option, replicas), steps[position + 1 :])
            if evidence.finding is Finding.MEETS:
                best = evidence
                break
            low = replicas
        if best is None:
            return None
        while best.candidate.replicas - low > 1:
            high = best.candidate.replicas
            middle = (high + low) // 2
            halves = [half for half in ((middle + low) // 2, (high + middle) // 2) if low < half != middle]
            evidence = self.judge(Candidate(option, middle), halves)
            if evidence.finding is Finding.MEETS:
                best = evidence
            else:
                low = middle
        return best

    def judge(self, candidate: Candidate, next_replicas: Sequence[int] = ()) -> Evidence:
        """Fly a candidate with one seed after the other until the bounds decide; remember the evidence.

        `next_replicas` are the numbers that will probably be asked about afterwards.
        """
        if candidate in self.flown:
            return self.flown[candidate]
        later = [Candidate(candidate.option, replicas) for replicas in next_replicas]
        evidence = self._judge_with(
            candidate, (), self.seeds, [(other, self.seeds[0]) for other in later if other not in self.flown]
        )
        self.flown[candidate] = evidence
        return evidence

    def _verified(self, evidence: Evidence) -> Evidence | None:
        """Fly the answer on fresh seeds; return it unchanged, one with more replicas, or None when that is too many."""
        if not self.fresh_seeds or any(probe.seed in self.fresh_seeds for probe in evidence.probes):
            return evidence if evidence.finding is Finding.MEETS else None
        fresh = self._judge_with(evidence.candidate, (), self.fresh_seeds)
        merged = Evidence(
            evidence.candidate, evidence.probes + fresh.probes, fresh.finding, evidence.is_close or fresh.is_close
        )
        self.flown[evidence.candidate] = merged
        if fresh.finding is Finding.MEETS:
            return merged
        more = Candidate(evidence.candidate.option, evidence.candidate.replicas + 1)
        return self.judge(more) if more.replicas <= more.option.max_replicas else None

    def _judge_with(
        self,
        candidate: Candidate,
        probes: tuple[Probe, ...],
        seeds: Sequence[int],
        later: Sequence[tuple[Candidate, int]] = (),
    ) -> Evidence:
        for position, seed in enumerate(seeds):
            ahead = [(candidate, other) for other in seeds[position + 1 :]]
            self.expect([(candidate, seed), *ahead[:1], *later, *ahead[1:]])
            probes += (self.fly(candidate, seed),)
            findings = [
                judge([probe.classes[position] for probe in probes]) for position in range(len(probes[0].classes))
            ]
            if Finding.FAILS in findings or probes[-1].is_cut:
                return Evidence(candidate, probes, Finding.FAILS)
            if all(finding is Finding.MEETS for finding in findings):
                return Evidence(candidate, probes, Finding.MEETS)
        meets = all(
            point_meets([probe.classes[position] for probe in probes]) for position in range(len(probes[0].classes))
        )
        return Evidence(candidate, probes, Finding.MEETS if meets else Finding.FAILS, is_close=True)


def _doubling(first: int, most: int) -> Iterator[int]:
    """Yield first, then steps that double, and `most` last."""
    step, replicas = 1, first
    while replicas < most:
        yield replicas
        replicas += step
        step *= 2
    yield most
