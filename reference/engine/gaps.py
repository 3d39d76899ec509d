"""Inter-token latency of a replica, pooled: how many gaps of which length, at a cost per leap and not per token.

Gaps are binned to 1/128 of their size, as an HDR histogram does; their count and their sum are exact. All of it is
integer arithmetic on ticks, so the gaps of a leap fall into the same bins as those of its single steps.
"""

from __future__ import annotations

from reference.engine.step_cost import TICKS_PER_SECOND

_BITS = 8


class GapHistogram:
    """Counts gaps between successive tokens of the same sequence. Grows by one bin per 0.8 % of gap, never shrinks."""

    __slots__ = ("_bins", "count", "total_ticks")

    def __init__(self) -> None:
        self.count = 0
        self.total_ticks = 0
        self._bins: dict[int, int] = {}

    def add(self, ticks: int, weight: int) -> None:
        """Count `weight` gaps of the same length."""
        self.count += weight
        self.total_ticks += ticks * weight
        shift = ticks.bit_length() - _BITS
        key = (ticks >> shift) << shift if shift > 0 else ticks
        bins = self._bins
        if key in bins:
            bins[key] += weight
        else:
            bins[key] = weight

    def add_progression(self, first: int, difference: int, steps: int, weight: int) -> None:
        """Count `weight` gaps of each of first, first + difference, ... (`steps` terms, difference not negative)."""
        last = first + difference * (steps - 1)
        shift = first.bit_length() - _BITS
        if shift > 0 and last >> shift == first >> shift:
            key = (first >> shift) << shift
            self.count += weight * steps
            self.total_ticks += (first + last) * steps // 2 * weight
            self._bins[key] = self._bins.get(key, 0) + weight * steps
            return
        while steps:
            shift = max(0, first.bit_length() - _BITS)
            edge = ((first >> shift) + 1) << shift
            within = steps if difference == 0 else min(steps, (edge - first - 1) // difference + 1)
            key = (first >> shift) << shift
            self.count += weight * within
            self.total_ticks += (2 * first + difference * (within - 1)) * within // 2 * weight
            self._bins[key] = self._bins.get(key, 0) + weight * within
            first += difference * within
            steps -= within

    def items(self) -> list[tuple[float, int]]:
        """Give (gap in seconds, how many), ascending; the gap is the middle of its bin."""
        found = []
        for key in sorted(self._bins):
            shift = max(0, key.bit_length() - _BITS)
            found.append(((key + ((1 << shift) - 1) / 2) / TICKS_PER_SECOND, self._bins[key]))
        return found

    @property
    def mean_seconds(self) -> float | None:
        """The exact mean gap; None before the first."""
        return self.total_ticks / self.count / TICKS_PER_SECOND if self.count else None
