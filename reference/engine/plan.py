"""Steps that follow each other with the same batch, and when each of them ends, in closed form.

Time is counted in ticks (see `step_cost`), so all of it is exact.
"""

from __future__ import annotations

from math import ceil, sqrt
from typing import Final

from reference.engine.step_cost import TICKS_PER_SECOND

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
