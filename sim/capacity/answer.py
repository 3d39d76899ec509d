"""What a plan says: the answer in one sentence, what stands behind it, and every cluster that was flown as a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sim.capacity.decide import Finding
from sim.capacity.headroom import Headroom
from sim.capacity.price import Prices
from sim.capacity.search import Candidate, Evidence, Skipped
from sim.capacity.space import Spare
from sim.capacity.together import Choice
from sim.experiment.scenario import LoadedScenario

MOST_TIES = 3
"""As many are named."""


@dataclass(slots=True, kw_only=True)
class Answer:
    """What a plan found. `choice` is None when nothing in the space meets the SLOs."""

    loaded: LoadedScenario
    choice: Choice | None
    flown: list[Evidence]
    skipped: list[Skipped]
    spare: Spare
    prices: Prices
    num_flights: int
    minimise: str
    headroom: Headroom | None = None

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        if self.choice is None:
            closest = "the closest is in the table" if self.flown else "even a perfect system would need more"
            return f"Nothing in the space meets the SLOs; {closest}."
        chosen = self.choice.candidates
        what = " and ".join(self.in_words(candidate) for candidate in chosen)
        spare = f", with {self.spare} to spare," if str(self.spare) else ""
        verb = "meets" if len(chosen) == 1 and chosen[0].replicas == 1 else "meet"
        shares = ", ".join(f"{name} {share:.2%}" for name, share in self.choice.attainment.items())
        return f"{what}{spare} {verb} every SLO ({shares} good) for {self.money(self.choice.price)}."

    @property
    def bound(self) -> str:
        """What a perfect system would need, in a sentence: no answer can be below it."""
        if self.choice is None:
            return ""
        counts = " and ".join(str(candidate.option.perfect) for candidate in self.choice.candidates)
        return (
            f"A perfect system, without queues, idle moments or half-full batches, would need {counts} of them "
            f"({self.money(self.choice.perfect_price)})."
        )

    @property
    def binding(self) -> str:
        """Which SLO the answer with one replica less breaks most, in words; of each pool."""
        return "" if self.choice is None else " ".join(self._binding(part) for part in self.choice.parts)

    @property
    def ties(self) -> str:
        """What else meets every SLO for the same price, in a sentence; empty where nothing does."""
        if self.choice is None or len(self.choice.parts) > 1:
            return ""
        best = self.choice.candidates[0]
        same = [
            f"{evidence.candidate.replicas} × {evidence.candidate.option.label}"
            for evidence in self.flown
            if evidence.finding is Finding.MEETS
            and evidence.candidate.price == best.price
            and evidence.candidate.option != best.option
        ]
        more = f", and {len(same) - MOST_TIES} more" if len(same) > MOST_TIES else ""
        return f"As cheap: {'; '.join(same[:MOST_TIES])}{more}." if same else ""

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

    @property
    def price_note(self) -> str:
        """Where the prices come from."""
        return "" if self.minimise == "gpus" else f"Prices as of {self.prices.date}: {self.prices.source}."

    def in_words(self, candidate: Candidate) -> str:
        """Name a candidate: `2 replicas of MODEL on h100-sxm, TP 2`."""
        pool = self.loaded.scenario.cluster.pools[candidate.option.pool]
        what = f"on {candidate.option.label}" if candidate.option.label else "as the scenario has it"
        return f"{candidate.replicas} replica{'' if candidate.replicas == 1 else 's'} of {pool.model} {what}"

    def money(self, price: float) -> str:
        """Write what is minimised with its unit."""
        return f"{price:g} GPU{'' if price == 1 else 's'}" if self.minimise == "gpus" else f"${price:.2f} an hour"

    def rows(self) -> list[dict[str, Any]]:
        """Return the flown candidates, cheapest first, as rows for a table."""
        chosen = self.choice.candidates if self.choice else ()
        pools = self.loaded.scenario.cluster.pools
        return [
            {
                "pool": pools[evidence.candidate.option.pool].name or pools[evidence.candidate.option.pool].engine,
                "option": evidence.candidate.option.label,
                "replicas": evidence.candidate.replicas,
                "price": evidence.candidate.price,
                "attainment": evidence.attainment,
                "finding": evidence.finding.value,
                "is_close": evidence.is_close,
                "is_cut": evidence.probes[-1].is_cut,
                "flights": len(evidence.probes),
                "perfect_replicas": evidence.candidate.option.perfect,
                "perfect_price": evidence.candidate.option.perfect_price,
                "gpus": evidence.candidate.gpus,
                "is_best": evidence.candidate in chosen,
                **evidence.probes[0].figures,
            }
            for evidence in sorted(
                self.flown, key=lambda e: (e.candidate.option.pool, e.candidate.price, e.candidate.option.label)
            )
        ]

    def broken_below(self, part: Evidence) -> tuple[int, str, str] | None:
        """Return (replicas, class, SLO or `lost`) of what breaks most with fewer replicas; None: none were needed."""
        fewer = [
            evidence
            for evidence in self.flown
            if evidence.candidate.option == part.candidate.option
            and evidence.candidate.replicas < part.candidate.replicas
        ]
        if not fewer:
            return None
        below = max(fewer, key=lambda evidence: evidence.candidate.replicas)
        counts: dict[tuple[str, str], int] = {}
        for probe in below.probes:
            for kind in probe.classes:
                for slo, broken in kind.broken:
                    counts[kind.name, slo] = counts.get((kind.name, slo), 0) + broken
        (name, slo), _ = max(counts.items(), key=lambda item: item[1], default=(("", "lost"), 0))
        return below.candidate.replicas, name, slo

    def _binding(self, part: Evidence) -> str:
        found = self.broken_below(part)
        if found is None:
            return "Even the smallest number that could serve the load meets every SLO."
        replicas, name, slo = found
        what = "loses requests" if slo == "lost" else f"breaks its {slo.upper()}"
        return f"With {replicas}, {name or 'every class'} {what} first."
