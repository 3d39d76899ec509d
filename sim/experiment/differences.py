"""One difference between two runs, its bounds, and what it amounts to: better, worse, same, or unclear."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, sqrt
from typing import Literal

from sim.experiment.columns import Bools
from sim.experiment.quantiles import significant, wilson

LEVEL = 0.99
"""Of the bounds: higher than a report's 95 %, because many rows are looked at together."""

RowVerdict = Literal["better", "worse", "same", "unclear", "withheld", "shown"]


@dataclass(frozen=True, slots=True)
class Row:
    """One measure of one group in both runs. The difference is relative, of shares absolute; positive: B is larger."""

    group: str
    measure: str
    at: str
    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None
    verdict: RowVerdict


def paired_share_bounds(a: Bools, b: Bools) -> tuple[float, float]:
    """Bound the difference of two shares of the same requests, by Clopper and Pearson among those that changed."""
    from scipy.special import betaincinv

    gained, lost = int((b & ~a).sum()), int((a & ~b).sum())
    changed, tail = gained + lost, (1 - LEVEL) / 2
    if not changed:
        return 0.0, 0.0
    low = float(betaincinv(gained, lost + 1, tail)) if gained else 0.0
    high = float(betaincinv(gained + 1, lost, 1 - tail)) if lost else 1.0
    return changed / len(a) * (2 * low - 1), changed / len(a) * (2 * high - 1)


def unpaired_share_bounds(a: Bools, b: Bools) -> tuple[float, float]:
    """Bound the difference of two shares by Newcombe's hybrid of Wilson's intervals."""
    share_a, share_b = (float(side.mean()) if len(side) else 0.0 for side in (a, b))
    low_a, high_a = wilson(int(a.sum()), len(a), LEVEL)
    low_b, high_b = wilson(int(b.sum()), len(b), LEVEL)
    difference = share_b - share_a
    return (
        difference - sqrt((share_b - low_b) ** 2 + (high_a - share_a) ** 2),
        difference + sqrt((high_b - share_b) ** 2 + (share_a - low_a) ** 2),
    )


def judged(
    group: str,
    measure: str,
    at: str,
    a: float,
    b: float,
    difference: float,
    bounds: tuple[float, float],
    effect: float,
    *,
    is_more_better: bool,
) -> Row:
    """Make the row of a difference and its bounds."""
    low, high = bounds
    is_apart = low > 0 or high < 0
    verdict: RowVerdict
    if isnan(low):
        verdict = "withheld"
    elif is_apart and abs(difference) >= effect:
        verdict = "better" if (difference > 0) == is_more_better else "worse"
    elif is_apart or (low >= -effect and high <= effect):
        verdict = "same"
    else:
        verdict = "unclear"
    return Row(
        group,
        measure,
        at,
        significant(a),
        significant(b),
        significant(difference),
        significant(low),
        significant(high),
        verdict,
    )
