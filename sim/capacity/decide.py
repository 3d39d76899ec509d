"""Does a candidate meet its SLOs? Decided by confidence bounds on counts, not by comparing two point estimates.

Good or not good comes in runs (a burst spoils its neighbours), so requests are no independent trials: the interval is
Wilson's on an effective sample size, the count divided by a design effect taken from the counts per minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import sqrt

Z_95 = 1.959963984540054
"""Two-sided 95 %."""

BLOCK_SECONDS = 60.0
"""What counts as one cluster of requests that fare alike: a minute of schedule."""


class Finding(Enum):
    """What the evidence says so far."""

    MEETS = "meets"
    FAILS = "fails"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """Good and all requests of one traffic class in each minute of a flight, and what the bad ones broke."""

    name: str
    target: float
    minutes: tuple[tuple[int, int], ...]
    """(good, all) by minute of schedule."""
    broken: tuple[tuple[str, int], ...] = ()
    """(SLO name or `lost`, requests that broke it)."""
    flown: tuple[int, int] | None = None
    """(good, all) of a flight that was cut short, whose `minutes` take whatever had not been decided for good."""

    @property
    def good(self) -> int:
        """Requests that met every SLO."""
        return sum(good for good, _ in self.minutes)

    @property
    def total(self) -> int:
        """Requests scheduled in the window."""
        return sum(total for _, total in self.minutes)

    @property
    def seen(self) -> tuple[int, int]:
        """(good, all) of the requests whose end, or failure, was flown."""
        return self.flown or (self.good, self.total)

    @property
    def attainment(self) -> float:
        """Share of good requests among those seen; 1 for a class without any."""
        good, total = self.seen
        return good / total if total else 1.0


def wilson(good: float, total: float, z: float = Z_95) -> tuple[float, float]:
    """Return Wilson's score interval for a share (E. B. Wilson, JASA 1927); (0, 1) without any trial."""
    if total <= 0:
        return 0.0, 1.0
    share, z2 = good / total, z * z
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = z / (1 + z2 / total) * sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def design_effect(minutes: Sequence[tuple[int, int]]) -> float:
    """Return how many times larger the variance of the share is than if requests were independent; at least 1.

    The ratio estimator of cluster sampling, with minutes as clusters (Cochran, Sampling Techniques, §9A.2).
    """
    clusters = [(good, total) for good, total in minutes if total]
    total = sum(n for _, n in clusters)
    share = sum(good for good, _ in clusters) / total if total else 1.0
    if len(clusters) < 2 or share in (0.0, 1.0):
        return 1.0
    spread = sum((good - share * n) ** 2 for good, n in clusters) * len(clusters) / (len(clusters) - 1)
    return max(1.0, spread / (total * share * (1 - share)))


def judge(flights: Sequence[ClassCounts], z: float = Z_95) -> Finding:
    """Judge one class by all its flights so far (same candidate, other seeds)."""
    minutes = [minute for flight in flights for minute in flight.minutes]
    good, total = sum(good for good, _ in minutes), sum(total for _, total in minutes)
    if total == 0:
        return Finding.MEETS
    effective = total / design_effect(minutes)
    low, high = wilson(good / total * effective, effective, z)
    target = flights[0].target
    if low >= target:
        return Finding.MEETS
    return Finding.FAILS if high < target else Finding.OPEN


def point_meets(flights: Sequence[ClassCounts]) -> bool:
    """Compare the share of one class over all its flights with its target: where no bound decides."""
    good, total = sum(flight.good for flight in flights), sum(flight.total for flight in flights)
    return total == 0 or good / total >= flights[0].target


def meets(flights: Sequence[ClassCounts], z: float = Z_95) -> bool:
    """Decide about one class: by the bounds, or by the share where they leave it open."""
    finding = judge(flights, z)
    return point_meets(flights) if finding is Finding.OPEN else finding is Finding.MEETS
