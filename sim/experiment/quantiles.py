"""Quantiles with intervals that assume nothing about the distribution, and shares with Wilson's.

A quantile's interval lies between two order statistics: how many of n independent values fall below the true q-quantile
is binomial(n, q), whatever the values are (David and Nagaraja, Order Statistics, 7.1). With too few values no order
statistic lies far enough out, and then the quantile is withheld: p99 needs 368 values at 95 %.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from math import ceil, isnan, log, sqrt

import numpy as np

from sim.experiment.columns import Floats

LEVEL = 0.95
"""Of every interval in a report."""

_Z = {0.95: 1.959963984540054, 0.99: 2.5758293035489004}
"""The normal quantile of each level in use."""


@dataclass(frozen=True, slots=True)
class Quantile:
    """One quantile of a sample. `value`, `low` and `high` are None when the sample does not support it."""

    q: float
    num_values: int
    value: float | None = None
    low: float | None = None
    high: float | None = None


def min_sample(q: float, level: float = LEVEL) -> int:
    """Return the least sample with an interval for the q-quantile: the least n with max(q, 1−q)ⁿ ≤ (1−level)/2."""
    # 1 - 0.99 is a hair above 0.01, which must not ask for one more
    return ceil(log((1 - level) / 2) / log(max(q, 1 - q)) - 1e-9)


@cache
def ranks(q: float, num_values: int, level: float = LEVEL) -> tuple[int, int]:
    """Return the ranks, from 1, of the order statistics that bound the q-quantile with at least `level`.

    The lower rank is 0, or the upper one num_values + 1, where the sample is too small for that side.
    """
    tail = (1 - level) / 2
    return _binomial_quantile(tail, num_values, q), _binomial_quantile(1 - tail, num_values, q) + 1


def quantiles(values: Floats, percentiles: Iterable[float], level: float = LEVEL) -> list[Quantile]:
    """Estimate percentiles of the values that are not NaN: the smallest value with at least that share at or below."""
    ordered = np.sort(values[~np.isnan(values)])
    return [_of_sorted(ordered, percentile / 100, level) for percentile in percentiles]


def quantile(values: Floats, q: float) -> float | None:
    """Estimate one quantile without asking whether the sample supports it; None of no values."""
    ordered = np.sort(values[~np.isnan(values)])
    return float(ordered[_rank(q, len(ordered)) - 1]) if len(ordered) else None


def weighted_quantiles(values: Floats, counts: Floats, percentiles: Iterable[float]) -> list[Quantile]:
    """Estimate percentiles of values that occurred so often each.

    No interval is given: this is for gaps within answers, which are not independent of each other.
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(counts[order])
    total = round(float(reached[-1])) if len(reached) else 0
    found = []
    for percentile in percentiles:
        q = percentile / 100
        if total < min_sample(q):
            found.append(Quantile(q, total))
            continue
        at = int(np.searchsorted(reached, _rank(q, total) - 0.5))
        found.append(Quantile(q, total, float(values[order][at])))
    return found


def wilson(successes: int, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """Return Wilson's score interval of a share, at 0.95 or 0.99; (0, 1) of no trials."""
    if not trials:
        return 0.0, 1.0
    z = _Z[level]
    share, z2 = successes / trials, z * z
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = z * sqrt(share * (1 - share) / trials + z2 / (4 * trials * trials)) / (1 + z2 / trials)
    # at either end the formula is exact only up to the last bit
    return (max(0.0, centre - half) if successes else 0.0), (min(1.0, centre + half) if successes < trials else 1.0)


def significant(value: float | None, digits: int = 6) -> float | None:
    """Round to significant digits; None stays None and NaN becomes it."""
    return None if value is None or isnan(value) else float(f"{value:.{digits}g}")


def _of_sorted(ordered: Floats, q: float, level: float) -> Quantile:
    count = len(ordered)
    if count < min_sample(q, level):
        return Quantile(q, count)
    low, high = ranks(q, count, level)
    return Quantile(q, count, float(ordered[_rank(q, count) - 1]), float(ordered[low - 1]), float(ordered[high - 1]))


def _rank(q: float, count: int) -> int:
    # 0.95 * 100 is a hair above 95, and must not become rank 96
    return min(max(ceil(q * count - 1e-9), 1), count)


def _binomial_quantile(probability: float, trials: int, q: float) -> int:
    """Return the least k with P(B ≤ k) ≥ probability, B binomial(trials, q)."""
    # by hand: importing scipy.special takes longer than measuring a whole run
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, trials + 1)))))
    k = np.arange(trials + 1)
    log_chance = log_factorial[-1] - log_factorial - log_factorial[::-1] + k * log(q) + (trials - k) * log(1 - q)
    return min(int(np.searchsorted(np.cumsum(np.exp(log_chance)), probability)), trials)
