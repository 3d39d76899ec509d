"""How sure a difference of quantiles is: a bootstrap over blocks of time.

Neighbouring requests share a queue, so single requests are not independent; blocks of consecutive requests nearly are.
Resampling whole blocks keeps what neighbours have in common (Künsch 1989, with blocks that do not overlap). Two runs of
one workload are resampled by the same blocks, so what the workload does to both cancels out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sim.experiment.columns import Floats

RESAMPLES = 1000
MIN_BLOCKS = 30
MAX_BLOCKS = 100
REQUESTS_PER_BLOCK = 20

_CHUNK = 50
"""Resamples at a time: bounds the memory to this many times the number of requests."""


class BlockBootstrap:
    """Draws blocks of a stream of requests once; each measure of it, and of its pair, is resampled by those draws."""

    def __init__(self, num_requests: int, seed: int, resamples: int = RESAMPLES) -> None:
        num_blocks = min(num_requests, max(MIN_BLOCKS, min(MAX_BLOCKS, num_requests // REQUESTS_PER_BLOCK)))
        self._block = (np.arange(num_requests) * num_blocks // max(num_requests, 1)).astype(np.intp)
        draws = np.random.default_rng(seed).integers(0, max(num_blocks, 1), size=(resamples, max(num_blocks, 1)))
        self._weights = np.stack([np.bincount(draw, minlength=num_blocks) for draw in draws]).astype(np.int32)

    def quantiles(self, values: Floats, shares: Sequence[float]) -> Floats:
        """Return the quantiles of each resample, shape (resamples, shares).

        `values` is in order of time; NaN counts for nothing, and a resample of nothing else gives NaN.
        """
        is_known = ~np.isnan(values)
        known, block = values[is_known], self._block[is_known]
        order = np.argsort(known, kind="stable")
        known, block = known[order], block[order]
        found = np.full((len(self._weights), len(shares)), np.nan)
        for start in range(0, len(self._weights) if len(known) else 0, _CHUNK):
            reached = np.cumsum(self._weights[start : start + _CHUNK][:, block], axis=1, dtype=np.int32)
            for row, counts in enumerate(reached, start):
                if counts[-1]:
                    ranks = np.maximum(np.ceil(np.asarray(shares) * counts[-1] - 1e-9), 1)
                    found[row] = known[np.searchsorted(counts, ranks)]
        return found


def interval(samples: Floats, level: float) -> tuple[float, float]:
    """Return the percentile interval of a bootstrap."""
    known = samples[~np.isnan(samples)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
