"""Drawing from the distributions of a scenario: token counts, turns, think times."""

from __future__ import annotations

from math import log, sqrt
from typing import TYPE_CHECKING

from sim.experiment.schema import Distribution

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_Z_95 = 1.6448536269514722
"""The standard normal's 95th percentile."""


def draw(distribution: Distribution, count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw `count` values, clipped to [min, max]."""
    import numpy as np

    values = _raw(distribution, count, random)
    return np.clip(
        values,
        0.0 if distribution.min is None else distribution.min,
        np.inf if distribution.max is None else distribution.max,
    )


def draw_counts(distribution: Distribution, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw `count` whole numbers, at least 1 each."""
    import numpy as np

    return np.maximum(1, np.rint(draw(distribution, count, random))).astype(np.int64)


def _raw(distribution: Distribution, count: int, random: np.random.Generator) -> NDArray[np.float64]:
    import numpy as np

    match distribution.kind:
        case "constant":
            return np.full(count, distribution.mean or 0.0)
        case "uniform":
            return random.uniform(distribution.min or 0.0, distribution.max or 0.0, count)
        case "normal":
            return random.normal(distribution.mean or 0.0, distribution.stddev or 0.0, count)
        case "lognormal":
            mu, sigma = _lognormal(distribution)
            return random.lognormal(mu, sigma, count)
        case "exponential":
            return random.exponential(distribution.mean or 0.0, count)
        case "empirical":
            weights = np.asarray(distribution.weights or [1.0] * len(distribution.values or ()), dtype=float)
            return random.choice(np.asarray(distribution.values, dtype=float), count, p=weights / weights.sum())


def _lognormal(distribution: Distribution) -> tuple[float, float]:
    """Return (mu, sigma) of the logarithm, from two percentiles or from mean and standard deviation."""
    if distribution.p50 is not None and distribution.p95 is not None:
        return log(distribution.p50), log(distribution.p95 / distribution.p50) / _Z_95
    mean, deviation = distribution.mean or 1.0, distribution.stddev or 0.0
    sigma = sqrt(log(1 + (deviation / mean) ** 2))
    return log(mean) - sigma * sigma / 2, sigma
