"""Linear regressions of times on what happened in them, with how sure they are. Start at `solve` and `spread`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from sim.hardware.closed_form import weighted

COEFFICIENTS: Final = ("overhead", "per_prefill_token", "per_sequence", "per_context_token", "request_seconds")
TYPICAL: Final = np.array([5e-3, 5e-5, 1e-4, 1e-7, 2e-3])
"""Sizes at which each coefficient matters, in seconds."""
DRAWS: Final = 400
"""Of rows, with replacement, that tell how sure a fit is."""
NORMAL_95: Final = 1.96
HUBER: Final = 2.0
"""Times the median error, from which on a row counts less: someone was interrupted."""
ROUNDS: Final = 6
LEAST: Final = 0.1
"""Of what was measured: less is not expected, or a time that nothing is expected of would weigh without bound."""


def solve(design: np.ndarray, seconds: np.ndarray, *, is_free: bool = False) -> np.ndarray:
    """Find coefficients whose relative errors are least; rows far off count less (Huber's weights).

    Errors are relative to what is expected, in rounds: relative to what was measured, the rows that chance made short
    would weigh most, and an answer that came in a lump, in no time, would outweigh all others. Coefficients are 0 or
    more unless `is_free`, which is for telling how sure a fit is: at a bound nothing would move.
    """
    fit = _free if is_free else weighted
    expected = design @ TYPICAL[: design.shape[1]]
    expected *= float(np.median(seconds / np.maximum(expected, 1e-12)))
    found = fit(design, seconds, 1.0 / np.maximum(expected, LEAST * seconds))
    for _ in range(ROUNDS):
        expected = design @ found
        weight = 1.0 / np.maximum(expected, LEAST * seconds)
        error = np.abs(expected - seconds) * weight
        usual = max(HUBER * float(np.median(error)), 1e-4)
        found = fit(design, seconds, weight * np.sqrt(usual / np.maximum(error, usual)))
    return found


def _free(design: np.ndarray, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
    scale = np.maximum(np.abs(design).max(axis=0), 1e-300)
    solution, *_ = np.linalg.lstsq(design / scale * weight[:, None], target * weight, rcond=1e-9)
    return np.asarray(solution / scale)


def spread(
    count: int, fit: Callable[[np.ndarray, np.random.Generator], np.ndarray], draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Give the mean of each coefficient and half of its 95 % interval, as `fit` moves when its rows are drawn again."""
    chance = np.random.default_rng(0)
    found = np.array([fit(chance.integers(0, count, count), chance) for _ in range(draws)])
    return found.mean(axis=0), NORMAL_95 * found.std(axis=0)


def blurred(design: np.ndarray, seconds: np.ndarray, clock_seconds: float) -> np.ndarray:
    """Give the same for what a clock blurs: each time is off by `clock_seconds`, one way or the other."""
    rows = design / seconds[:, None]
    inverse = np.linalg.pinv(rows.T @ rows)
    moved = inverse @ rows.T * (clock_seconds / seconds)
    return np.asarray(NORMAL_95 * np.sqrt((moved**2).sum(axis=1)))


def doubts(names: tuple[str, ...], found: np.ndarray, half: np.ndarray) -> list[str]:
    """Name the coefficients that the rows hardly tell: those less sure than large, unless both are small."""
    typical = dict(zip(COEFFICIENTS, TYPICAL, strict=True))
    return [
        f"{name} is {value:.3g} s give or take {width:.2g}: what was measured hardly tells it"
        for name, value, width in zip(names, found, half, strict=True)
        if width > max(value, 0.05 * float(typical[name]))
    ]
