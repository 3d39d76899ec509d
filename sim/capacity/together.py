"""The answers for several pools, put together: each pool is searched alone, then all are flown at once.

Pools share the gateway and the router's settings and little else, so what each needs alone is where all together start;
whatever still falls short there gets one replica more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sim.capacity.decide import meets
from sim.capacity.search import Candidate, Evidence, Probe, Search, attainment_of
from sim.capacity.space import Part


@dataclass(frozen=True, slots=True)
class Choice:
    """A candidate for each pool that is varied, with its evidence, and the flights of all of them together."""

    parts: tuple[Evidence, ...]
    flights: tuple[Probe, ...] = ()
    """Of the whole cluster; empty where one pool is all of it."""

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """What is chosen."""
        return tuple(evidence.candidate for evidence in self.parts)

    @property
    def price(self) -> float:
        """What is minimised, of all pools that are varied."""
        return sum(candidate.price for candidate in self.candidates)

    @property
    def gpus(self) -> int:
        """Of all pools that are varied."""
        return sum(candidate.gpus for candidate in self.candidates)

    @property
    def perfect_price(self) -> float:
        """What a perfect system of the same options would cost."""
        return sum(candidate.option.perfect_price for candidate in self.candidates)

    @property
    def is_close(self) -> bool:
        """Whether the bounds left any of it open."""
        return any(evidence.is_close for evidence in self.parts)

    @property
    def attainment(self) -> dict[str, float]:
        """Attainment by class: of the flights together, where there are any."""
        return attainment_of(self.flights or self.parts[0].probes)


def cheapest(ways: Sequence[Sequence[Part]], search: Search, within: float) -> Choice | None:
    """Search each pool of each way alone; return the cheapest way of those that meet every SLO, None if none does."""
    best: Choice | None = None
    for way in ways:
        found = [search.run(part.options, within) for part in way]
        parts = tuple(evidence for evidence in found if evidence is not None)
        choice = Choice(parts)
        if len(parts) == len(way) and (best is None or choice.price < best.price):
            best = choice
    return best


def verified(
    choice: Choice,
    fly: Callable[[Sequence[Candidate], int], Probe],
    seeds: Sequence[int],
    search: Search,
) -> Choice | None:
    """Fly all pools together; give a replica more to those that miss an SLO there; None when that does not help."""
    while True:
        flights = tuple(fly(choice.candidates, seed) for seed in seeds)
        missed = {counts[0].name for counts in zip(*(flight.classes for flight in flights), strict=True)
                  if not meets(counts)}  # fmt: skip
        if not missed:
            return Choice(choice.parts, flights)
        short = [part for part in choice.parts if missed & {counts.name for counts in part.probes[0].classes}]
        if not short:
            return None
        parts = []
        for part in choice.parts:
            more = Candidate(part.candidate.option, part.candidate.replicas + 1)
            if part in short and more.replicas > more.option.max_replicas:
                return None
            parts.append(search.judge(more) if part in short else part)
        choice = Choice(tuple(parts))
