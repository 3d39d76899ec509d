"""Fits a step cost to lines of an engine's log, each of which sums up an interval.

In an interval in which B sequences run all the time and g tokens a second are generated, B / g seconds pass a step, and
in each step p · B / g of the p prompt tokens a second are computed. So B / g is linear in 1, p · B / g, B and the
context held. The log tells counts only at the two ends of an interval: where they change much it is left out, and for
the rest what may have been between goes into the uncertainty. Latency of requests is not in a log; throughput is.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from sim.experiment.errors import InputError
from sim.fidelity.calibrated import Calibrated, cost_of
from sim.fidelity.observed import Intervals
from sim.fidelity.regression import COEFFICIENTS, DRAWS, doubts, solve, spread
from sim.fidelity.scoreboard import Summary, summary

FEWEST: Final = 12
UNSTEADY: Final = 0.25
"""Change of the running sequences over an interval, relative to their mean, from which on it tells nothing."""
CLEARLY: Final = 2.0
"""Times its blur that context must vary besides what varies with the sequences, to be told apart from them."""
NO_CAPACITY: Final = "the KV capacity is not in the log"
ALWAYS_ALIKE: Final = "the context held grew and fell with the sequences that run"


def fit_intervals(intervals: Intervals) -> Calibrated:
    """Fit every other steady interval, and predict the throughput of the ones between.

    Raises:
        InputError: there are too few intervals with steady load.
    """
    steady = _steady(intervals)
    if len(steady) < FEWEST:
        raise InputError(
            f"{len(steady)} of {len(intervals)} intervals have steady load (running requests at both ends, within "
            f"{UNSTEADY:.0%}); expected at least {FEWEST}"
        )
    is_fitted = np.arange(len(steady)) % 2 == 0
    fitted = _chosen(steady, is_fitted)
    names = COEFFICIENTS[: 4 if _tells_context(fitted) else 3]
    found = _fit(fitted, fitted.running, fitted.context, len(names), is_free=False)
    half = _half_widths(fitted, len(names))
    told = doubts(names, found, half)
    if len(names) == 3:
        known = np.isfinite(steady.context).all()
        told.append(f"{ALWAYS_ALIKE if known else NO_CAPACITY}, so what attention costs is in the other coefficients")
    return Calibrated(
        cost=cost_of(np.concatenate([found, np.zeros(4 - len(found))])),
        request_seconds=0.0,
        told=names,
        uncertainty=dict(zip(names, map(float, half), strict=True)),
        fitted=_summary(fitted, found),
        held_out=_summary(_chosen(steady, ~is_fitted), found),
        num_rows=len(steady),
        rows="steady intervals",
        doubts=(*told, "a log tells throughput and no latency: request_seconds is left at 0"),
    )


def _steady(intervals: Intervals) -> Intervals:
    before, after = intervals.running_before, intervals.running_after
    is_steady = (np.minimum(before, after) >= 1) & (intervals.generation_rate > 0)
    is_steady &= np.abs(after - before) <= UNSTEADY * (after + before) / 2
    return _chosen(intervals, is_steady)


def _chosen(intervals: Intervals, which: np.ndarray) -> Intervals:
    return Intervals(**{name: getattr(intervals, name)[which] for name in Intervals.__dataclass_fields__})


def _half_widths(intervals: Intervals, count: int) -> np.ndarray:
    """Draw the intervals again, and what may have run and been held between their ends.

    Noise in a regressor also biases a fit. More of the same noise shifts it once more by about as much (Cook and
    Stefanski's SIMEX), so the shift is added.
    """
    running, context = intervals.running, intervals.context
    blur_running = _blur(intervals.running_before, intervals.running_after)
    blur_context = _blur(intervals.context_before, intervals.context_after)

    def again(rows: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        noise = chance.standard_normal((2, len(rows)))
        run, held = running[rows] * (1 + blur_running * noise[0]), context[rows] * (1 + blur_context * noise[1])
        return _fit(_chosen(intervals, rows), np.maximum(run, 0.5), np.maximum(held, 0.0), count, is_free=True)

    middle, half = spread(len(intervals), again, DRAWS)
    plain = _fit(intervals, running, context, count, is_free=True)
    return np.asarray(half + np.abs(middle - plain))


def _tells_context(intervals: Intervals) -> bool:
    """Say whether context is known, and varies by itself: a regressor that differs by its noise alone seems free."""
    context, running = intervals.context, intervals.running
    if not np.isfinite(context).all() or not (context > 0).any():
        return False
    alike = np.stack([np.ones_like(running), running], axis=1)
    rest = context - alike @ np.linalg.lstsq(alike, context, rcond=None)[0]
    blur = _blur(intervals.context_before, intervals.context_after) * context
    return bool(np.sqrt(np.mean(rest**2)) > CLEARLY * np.sqrt(np.mean(blur**2)))


def _blur(before: np.ndarray, after: np.ndarray) -> float:
    """Give the relative error of the mean of two ends as a mean over the interval, from how much the ends differ."""
    return float(np.sqrt(np.mean(((after - before) / np.maximum(after + before, 1e-9)) ** 2)))


def _fit(intervals: Intervals, running: np.ndarray, context: np.ndarray, count: int, *, is_free: bool) -> np.ndarray:
    step = running / intervals.generation_rate
    columns = (np.ones_like(step), intervals.prompt_rate * step, running, context)
    return solve(np.stack(columns[:count], axis=1), step, is_free=is_free)


def _summary(intervals: Intervals, found: np.ndarray) -> dict[str, Summary]:
    """Predict tokens generated per second from what runs, what is held, and the prompts that come."""
    context = intervals.context * found[3] if len(found) > 3 else 0.0
    decode = found[0] + found[2] * intervals.running + context
    left_by_prompts = np.clip(1 - found[1] * intervals.prompt_rate, 0.0, None)
    predicted = intervals.running * left_by_prompts / decode
    return {"throughput": summary((predicted / intervals.generation_rate - 1).tolist())}
