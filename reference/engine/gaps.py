"""Inter-token latency of a replica, pooled: how many gaps of which length, at a cost per leap and not per token.

Gaps are binned to 1/128 of their size, as an HDR histogram does; their count is exact. All of it is integer arithmetic
on ticks, so the gaps of a leap fall into the same bins as those of its single steps.
"""

from __future__ import annotations

from typing import Final

from reference.engine.step_cost import TICKS_PER_SECOND

_BITS: Final = 7
_HALF: Final = 1 << _BITS
_WHOLE: Final = 2 << _BITS
_NUM_BINS: Final = 64 << _BITS


class GapHistogram:
    """Counts gaps between successive tokens of the same sequence. Of one size from the start."""

    __slots__ = ("_bins", "_shift")

    def __init__(self) -> None:
        self._bins = [0] * _NUM_BINS
        """Counts by how far a gap is shifted to have eight bits left, and the seven below the leading one."""
        self._shift = 0
        """How far the last gap was shifted; the next is likely of its size."""

    def add(self, first: int, difference: int, steps: int, weight: int) -> None:
        """Count `weight` gaps of each of first, first + difference, ... (`steps` terms, difference not negative)."""
        shift = self._shift
        lead = first >> shift
        if not _HALF <= lead < _WHOLE:
            shift = self._shift = max(0, first.bit_length() - _BITS - 1)
            lead = first >> shift
        if difference and (first + difference * (steps - 1)) >> shift != lead:
            self._add_across(first, difference, steps, weight)
            return
        self._bins[(shift << _BITS) + lead] += weight * steps

    def items(self) -> list[tuple[float, int]]:
        """Give (gap in seconds, how many), ascending; the gap is the middle of its bin."""
        found = []
        for index, count in enumerate(self._bins):
            if count:
                # bins of a shift begin where those of the one before end; the first has the gaps below 128 ticks, too
                shift = max(0, (index >> _BITS) - 1)
                lowest = (index - (shift << _BITS)) << shift
                found.append(((lowest + ((1 << shift) - 1) / 2) / TICKS_PER_SECOND, count))
        return found

    @property
    def count(self) -> int:
        """How many gaps there were."""
        return sum(self._bins)

    @property
    def mean_seconds(self) -> float | None:
        """The mean gap, within 0.4 %; None before the first."""
        count = self.count
        return sum(gap * weight for gap, weight in self.items()) / count if count else None

    def _add_across(self, first: int, difference: int, steps: int, weight: int) -> None:
        """Count a progression bin by bin."""
        bins = self._bins
        while steps > 0:
            shift = self._shift = max(0, first.bit_length() - _BITS - 1)
            lead = first >> shift
            within = steps
            if difference:
                within = min(steps, (((lead + 1) << shift) - first - 1) // difference + 1)
            bins[(shift << _BITS) + lead] += weight * within
            first += difference * within
            steps -= within
