"""Inter-token latency of a replica, pooled: how many gaps of which length, at a cost per leap and not per token.

Gaps are binned to 1/128 of their size, as an HDR histogram does; their count and their sum are exact. All of it is
integer arithmetic on ticks, so the gaps of a leap fall into the same bins as those of its single steps.
"""

from __future__ import annotations

from reference.engine.step_cost import TICKS_PER_SECOND

_BITS = 8


class GapHistogram:
    """Counts gaps between successive tokens of the same sequence. Grows by one bin per 0.8 % of gap, never shrinks."""

    __slots__ = ("_bins", "total_ticks")

    def __init__(self) -> None:
        self.total_ticks = 0
        self._bins: dict[int, int] = {}

    def add(self, first: int, difference: int, steps: int, weight: int) -> None:
        """Count `weight` gaps of each of first, first + difference, ... (`steps` terms, difference not negative)."""
        shift = first.bit_length() - _BITS
        last = first + difference * (steps - 1)
        if shift <= 0 or last >> shift != first >> shift:
            self._add_across(first, difference, steps, weight)
            return
        count = weight * steps
        self.total_ticks += (first + last) * count // 2
        key = first >> shift << shift
        bins = self._bins
        bins[key] = bins[key] + count if key in bins else count

    def items(self) -> list[tuple[float, int]]:
        """Give (gap in seconds, how many), ascending; the gap is the middle of its bin."""
        found = []
        for key in sorted(self._bins):
            shift = max(0, key.bit_length() - _BITS)
            found.append(((key + ((1 << shift) - 1) / 2) / TICKS_PER_SECOND, self._bins[key]))
        return found

    @property
    def count(self) -> int:
        """How many gaps there were."""
        return sum(self._bins.values())

    @property
    def mean_seconds(self) -> float | None:
        """The exact mean gap; None before the first."""
        count = self.count
        return self.total_ticks / count / TICKS_PER_SECOND if count else None

    def _add_across(self, first: int, difference: int, steps: int, weight: int) -> None:
        """Count a progression bin by bin."""
        while steps > 0:
            shift = max(0, first.bit_length() - _BITS)
            within = steps
            if difference:
                edge = ((first >> shift) + 1) << shift
                within = min(steps, (edge - first - 1) // difference + 1)
            count = weight * within
            self.total_ticks += (2 * first + difference * (within - 1)) * count // 2
            key = first >> shift << shift
            self._bins[key] = self._bins.get(key, 0) + count
            first += difference * within
            steps -= within
