"""The same question under other seeds: does the answer hinge on the draw?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sim.capacity.answer import Answer
from sim.experiment.scenario import LoadedScenario

STRIDE = 10_000
"""Between the seeds of repeats, so that no two of them share a flight."""


@dataclass(frozen=True, slots=True)
class Repeats:
    """Answers under several seeds, the scenario's own first."""

    answers: Sequence[Answer]

    @property
    def sentence(self) -> str:
        """Say that all seeds give one answer, or how answers and prices spread."""
        counts = Counter(in_short(answer) for answer in self.answers)
        number = len(self.answers)
        if len(counts) == 1:
            return f"All {number} seeds give this answer."
        told = "; ".join(f"{count} of {number}: {words}" for words, count in counts.most_common())
        prices = [answer.choice.price for answer in self.answers if answer.choice]
        first = self.answers[0]
        least, most = (first.money(min(prices)), first.money(max(prices))) if prices else ("", "")
        spread = f" From {least} to {most}." if least != most else ""
        return f"{number} seeds give {len(counts)} answers: {told}.{spread}"


def repeated(first: Answer, number: int, ask: Callable[[LoadedScenario], Answer]) -> Repeats:
    """Ask again under other seeds, `number` answers in all; `first` is the answer under the scenario's own."""
    loaded = first.loaded
    seeds = [loaded.scenario.seed + STRIDE * repeat for repeat in range(1, number)]
    others = [replace(loaded, scenario=loaded.scenario.model_copy(update={"seed": seed})) for seed in seeds]
    return Repeats([first, *map(ask, others)])


def in_short(answer: Answer) -> str:
    """Name the answer's cluster and price."""
    if answer.choice is None:
        return "nothing meets the SLOs"
    chosen = answer.choice.candidates
    words = " and ".join(f"{one.replicas} × {one.option.label or 'as it is'}" for one in chosen)
    return f"{words} for {answer.money(answer.choice.price)}"
