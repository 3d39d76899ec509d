"""Inter-token latency of a replica, pooled: how many gaps of which length, at a cost per leap and not per token.

Gaps are binned to 1/128 of their size, as an HDR histogram does; their count is exact. All of it is integer arithmetic
on ticks, so the gaps of a leap fall into the same bins as those of its single steps.
"""

from __future__ import annotations

from typing import Final

from reference.engine.step_cost import TICKS_PER_SECOND

_BITS: Final = 8


class GapHistogram:
    """Counts gaps between successive tokens of the same sequence. Grows by one bin per 0.8 % of gap, never shrinks."""

    __slots__ = ("_bins",)

    def __init__(self) -> None:
        self._bins: dict[int, int] = {}
        """Counts by the gap's leading bits, shifted back."""

    def add(self, first: int, difference: int, steps: int, weight: int) -> None:
        """Count `weight` gaps of each of first, first + difference, ... (`steps` terms, difference not negative)."""
        shift = first.bit_length() - _BITS
        if shift < 0:
            self._add_across(first, difference, steps, weight)
            return
        key = first >> shift
        if difference and (first + difference * (steps - 1)) >> shift != key:
            self._add_across(first, difference, steps, weight)
            return
        key <<= shift
        bins = self._bins
        if key in bins:
            bins[key] += weight * steps
        else:
            bins[key] = weight * steps

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
        """The mean gap, within 0.4 %; None before the first."""
        count = self.count
        return sum(gap * weight for gap, weight in self.items()) / count if count else None

    def _add_across(self, first: int, difference: int, steps: int, weight: int) -> None:
        """Count a progression bin by bin."""
        bins = self._bins
        while steps > 0:
            shift = max(0, first.bit_length() - _BITS)
            key = first >> shift
            within = steps
            if difference:
                within = min(steps, (((key + 1) << shift) - first - 1) // difference + 1)
            key <<= shift
            bins[key] = bins.get(key, 0) + weight * within
            first += difference * within
            steps -= within
