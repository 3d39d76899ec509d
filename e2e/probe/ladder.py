"""What a probe asks, from the least load up: a stage an effect that a step cost has.

Prompts alone, ever longer, tell what a prompt token costs; one answer alone tells a step; more at a time tell a
sequence; long prompts tell context. Lengths differ from request to request, because every other one is held out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from sim.experiment.errors import InputError

SHORTEST: Final = 16
SHORT: Final = 128
ANSWER: Final = (24, 64)
NUM_PROMPTS: Final = 24
NUM_ALONE: Final = 6
MOST_LONG_STREAMS: Final = 8
FEWEST: Final = 2
"""Requests of a stage: one to fit, one to hold out."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request: tokens of its prompt and of its answer."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Stage:
    """So many clients, each of which sends its next request when its last one has ended, until all are sent."""

    name: str
    streams: int
    asks: tuple[Ask, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a probe may cost the endpoint."""

    max_requests: int
    max_tokens: int
    """Prompts and answers together."""
    max_seconds: float
    """After which nothing new is sent."""
    max_streams: int
    """Requests at a time."""


def ladder(longest: int, budget: Budget, seed: int = 1) -> tuple[Stage, ...]:
    """Build the stages within a budget; fewer requests per stage if it says so.

    Raises:
        InputError: the tokens do not suffice for prompts of up to `longest` tokens.
    """
    chance = np.random.default_rng(seed)
    sizes = np.geomspace(SHORTEST, longest, NUM_PROMPTS).astype(int)
    stages = [Stage("prompts alone", 1, tuple(Ask(int(size), 1) for size in sizes))]
    for streams in (1, *_doubling(budget.max_streams)):
        count = NUM_ALONE if streams == 1 else 2 * streams + 2
        name = "one answer at a time" if streams == 1 else f"{streams} answers at a time"
        stages.append(Stage(name, streams, _drawn(chance, count, (min(SHORTEST, longest), min(SHORT, longest)))))
    stages += [
        Stage(f"{streams} of long prompts", streams, _drawn(chance, streams + 1, (longest // 2, longest)))
        for streams in (1, *_doubling(min(MOST_LONG_STREAMS, budget.max_streams)))
    ]
    # one short request goes before each stage
    stages = _thinned(stages, budget.max_requests - len(stages))
    needed = cost_of(stages)
    if needed[1] > budget.max_tokens:
        raise InputError(
            f"--max-tokens {budget.max_tokens}: prompts of up to {longest} tokens need {needed[1]} in {needed[0]} "
            "requests; expected more tokens, or a smaller --longest"
        )
    return tuple(stages)


def cost_of(stages: tuple[Stage, ...] | list[Stage]) -> tuple[int, int]:
    """Give requests and tokens of stages."""
    asks = [ask for stage in stages for ask in stage.asks]
    return len(asks), sum(ask.input_tokens + ask.output_tokens for ask in asks)


def _doubling(most: int) -> list[int]:
    return [2**power for power in range(1, most.bit_length()) if 2**power <= most]


def _drawn(chance: np.random.Generator, count: int, prompt: tuple[int, int]) -> tuple[Ask, ...]:
    sizes, answers = (chance.integers(*bounds, count, endpoint=True) for bounds in (prompt, ANSWER))
    return tuple(Ask(int(size), int(answer)) for size, answer in zip(sizes, answers, strict=True))


def _thinned(stages: list[Stage], most: int) -> list[Stage]:
    """Keep at least a few requests of each stage, so that each effect is still seen; long stages give most."""
    counts = [len(stage.asks) for stage in stages]
    while sum(counts) > most and max(counts) > FEWEST:
        counts[counts.index(max(counts))] -= 1
    return [
        Stage(stage.name, stage.streams, tuple(stage.asks[place] for place in _spread(len(stage.asks), count)))
        for stage, count in zip(stages, counts, strict=True)
    ]


def _spread(count: int, chosen: int) -> list[int]:
    return [int(place) for place in np.linspace(0, count - 1, chosen)]
