"""Steps that follow each other with the same batch, and when each of them ends, in closed form.

Time is counted in ticks (see `step_cost`), so all of it is exact.
"""

from __future__ import annotations

from math import ceil, sqrt
from typing import Final

from reference.engine.step_cost import TICKS_PER_SECOND, StepCost

SECONDS_PER_TICK: Final = 1.0 / TICKS_PER_SECOND
EXACT_TICKS: Final = 2**53
"""Up to here a float tells ticks apart."""


class Plan:
    """What a replica does: `steps` steps from tick `start`, the first `first` ticks long, each next `growth` longer.

    Made once per engine and written anew at each beginning; `steps` is 0 while nothing runs.
    """

    __slots__ = ("end", "first", "growth", "start", "steps")

    def __init__(self) -> None:
        self.start = 0
        self.end = 0
        self.steps = 0
        self.first = 0
        self.growth = 0

    def begin(self, start: int, steps: int, first: int, growth: int) -> None:
        """Run `steps` steps from tick `start`."""
        self.start = start
        self.steps = steps
        self.first = first
        self.growth = growth
        self.end = start + steps * first + growth * (steps * (steps - 1) // 2)

    def keep(self, steps: int) -> None:
        """End after the first `steps` steps."""
        self.steps = steps
        self.end = self.start + self.ticks_of(steps)

    def drop(self, steps: int) -> None:
        """Have the first `steps` steps behind it; fewer than all."""
        self.start += self.ticks_of(steps)
        self.first += self.growth * steps
        self.steps -= steps

    def ticks_of(self, steps: int) -> int:
        """How long the first `steps` steps take together."""
        return steps * self.first + self.growth * (steps * (steps - 1) // 2)

    def whole_steps(self, ticks: int) -> int:
        """How many steps end within `ticks` of the start, when the plan goes on for longer than that."""
        growth, first = self.growth, self.first
        if ticks < first:
            return 0
        if not growth:
            return ticks // first
        linear = first - 0.5 * growth
        steps = int((sqrt(linear * linear + 2.0 * growth * ticks) - linear) / growth)
        left = ticks - steps * first - growth * (steps * (steps - 1) // 2)
        while left < 0:
            steps -= 1
            left += first + growth * steps
        while left >= first + growth * steps:
            left -= first + growth * steps
            steps += 1
        return steps


class StepTimer:
    """Step times in ticks, for a replica that may be slower than it should by a factor."""

    __slots__ = ("_cost", "_factor", "fixed", "slope")

    def __init__(self, cost: StepCost) -> None:
        self._cost = cost
        self.set_factor(1.0)

    def set_factor(self, factor: float) -> None:
        """Have every step take `factor` times as long as its cost says."""
        self._factor = factor
        self.fixed: list[int] = []
        """Ticks of a decode step by batch size, context apart, as far as was asked for with `decode`."""
        self.slope = round(self._cost.per_context_token * factor * TICKS_PER_SECOND)
        """Ticks per token of context."""

    def decode(self, num_sequences: int, context_tokens: int) -> int:
        """Give the time of a step that only decodes."""
        fixed = self.fixed
        while num_sequences >= len(fixed):
            seconds, _ = self._cost.decode_affine(len(fixed))
            fixed.append(max(1, round(seconds * self._factor * TICKS_PER_SECOND)))
        return fixed[num_sequences] + self.slope * context_tokens

    def mixed(
        self, num_sequences: int, num_tokens: int, context_tokens: int, prefill_tokens: int, prefill_pairs: float
    ) -> int:
        """Give the time of any step; the arguments are those of `StepCost.seconds`."""
        seconds = self._cost.seconds(num_sequences, num_tokens, context_tokens, prefill_tokens, prefill_pairs)
        return max(1, round(seconds * self._factor * TICKS_PER_SECOND))


def tick_from(now: float) -> int:
    """Give the first tick at or after `now`."""
    return ceil(now * TICKS_PER_SECOND)


def tick_at(now: float) -> int:
    """Give the last tick at or before `now`, as floats tell it."""
    tick = int(now * TICKS_PER_SECOND)
    if tick >= EXACT_TICKS:
        while (tick + 1) * SECONDS_PER_TICK <= now:
            tick += 1
    return tick
