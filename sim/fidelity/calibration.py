"""Fits a step cost to what was measured on one replica, says how sure the fit is, and judges it on the rest.

Three depths of measurement, three fits. Steps (`step_fit`) are a regression outright. Intervals of a log (`log_fit`)
are one, too, of the mean step of each. For requests, what happened while an answer came (steps, prompts computed,
context attended to) is first guessed from the measured instants, then counted in a flight at the cost so found. Every
other row is fitted, and the ones between are predicted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from reference.engine import EngineSettings
from sim.experiment.errors import InputError
from sim.fidelity.calibrated import Calibrated, cost_of
from sim.fidelity.closed_loop import Times
from sim.fidelity.composition import CLOCK_SECONDS, Flown, flown
from sim.fidelity.log_fit import fit_intervals
from sim.fidelity.observed import Intervals, Observed, Recording, Steps
from sim.fidelity.regression import COEFFICIENTS, DRAWS, blurred, doubts, solve, spread
from sim.fidelity.scoreboard import Summary, summary
from sim.fidelity.step_fit import fit_steps

FEWEST: Final = 20
"""Requests of which nothing can be learnt by five numbers and then checked."""
ROUNDS: Final = 8
"""Of regression and flight in turn."""
NEVER_IDLE: Final = (
    "hardly a request found the engine idle, so what one waits besides its steps is not told: it is left at 0"
)

FAR_OFF: Final = 0.3
"""Median error on what was not fitted."""
NOT_THE_ENGINE: Final = (
    "predictions are far off; where requests queued, max_num_seqs, max_num_batched_tokens and the KV cache have to be "
    "the engine's own"
)


def calibrate(recording: Recording, settings: EngineSettings) -> Calibrated:
    """Fit half of a recording and predict the other half. `settings` are the engine's, for what requests cannot tell.

    Raises:
        InputError: too little was measured, or the engine's settings cannot have served it.
    """
    match recording.measured:
        case Steps() as steps:
            found = fit_steps(steps)
        case Intervals() as intervals:
            found = fit_intervals(intervals)
        case Observed() as observed:
            found = fit_requests(observed, settings)
    return replace(found, kv_tokens=recording.kv_tokens, doubts=(*recording.notes, *found.doubts))


def fit_requests(observed: Observed, settings: EngineSettings) -> Calibrated:
    """Fit every other request, and predict the ones between.

    Raises:
        InputError: too few requests, or the engine's settings cannot have served them.
    """
    if len(observed) < FEWEST:
        raise InputError(
            f"{len(observed)} requests succeeded; expected at least {FEWEST}, to fit some and to check the others"
        )
    is_fitted = np.arange(len(observed)) % 2 == 0
    found, flight = _settled(observed, settings, is_fitted)
    told = COEFFICIENTS if flight.design[:, -1].any() else COEFFICIENTS[:-1]
    half = _half_widths(flight)
    held_out = _summaries(flight.times, observed, ~is_fitted)
    return Calibrated(
        cost=cost_of(found),
        request_seconds=float(found[-1]),
        told=told,
        uncertainty=dict(zip(told, map(float, half), strict=False)),
        fitted=_summaries(flight.times, observed, is_fitted),
        held_out=held_out,
        num_rows=len(observed),
        rows="requests",
        doubts=(*doubts(told, found[: len(told)], half[: len(told)]), *_suspicions(held_out, told)),
    )


def _suspicions(held_out: dict[str, Summary], told: tuple[str, ...]) -> list[str]:
    found = [] if told == COEFFICIENTS else [NEVER_IDLE]
    if max(held_out[measure].median for measure in ("ttft", "tpot") if held_out[measure].count) > FAR_OFF:
        found.append(NOT_THE_ENGINE)
    return found


def _settled(observed: Observed, settings: EngineSettings, which: np.ndarray) -> tuple[np.ndarray, Flown]:
    """Let regression and flight settle; return the coefficients whose flight is nearest to what was measured."""
    design, seconds = _overlaps(observed, settings, which)
    if len(seconds) < 2 * len(COEFFICIENTS):
        raise InputError(
            f"only {len(seconds)} answers or idle arrivals can be fitted; expected at least {2 * len(COEFFICIENTS)}: "
            "more requests, with answers of three tokens and more"
        )
    found = solve(design, seconds)
    tried: list[tuple[float, int, np.ndarray, Flown]] = []
    for _ in range(ROUNDS):
        flight = flown(observed, settings, found, which)
        tried.append((_misfit(flight.times, observed, which), len(tried), found, flight))
        found = solve(flight.design, flight.seconds)
    _, _, found, flight = min(tried, key=lambda one: one[:2])
    return found, flight


def _misfit(times: Times, observed: Observed, which: np.ndarray) -> float:
    """Mean absolute error, relative, of both times of a request; none counts more than 1."""
    errors = [
        error
        for measure in ("ttft", "tpot")
        for error in _errors(getattr(times, measure)[which], getattr(observed, measure)[which])
    ]
    return float(np.minimum(np.abs(errors), 1.0).mean())


def _half_widths(flight: Flown) -> np.ndarray:
    design, seconds = flight.design, flight.seconds
    _, drawn = spread(len(seconds), lambda rows, _: solve(design[rows], seconds[rows], is_free=True), DRAWS)
    return np.asarray(np.hypot(drawn, blurred(design, seconds, CLOCK_SECONDS)))


def _overlaps(observed: Observed, settings: EngineSettings, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the rows of a linear regression: how often each coefficient is in a time that was measured, and that time.

    While an answer of n tokens comes, n - 1 steps pass; who else decoded then, with how much context, and which prompts
    were computed, the measured instants tell. A first token on an idle replica is a prompt alone.
    """
    first = observed.sent + observed.ttft
    last = observed.sent + observed.e2e
    computed = np.maximum(1, observed.input_tokens - observed.cached_tokens)
    context = observed.input_tokens + observed.output_tokens / 2
    rows, seconds = [], []
    for number in np.flatnonzero(which):
        begin, end, steps = first[number], last[number], observed.output_tokens[number] - 1
        if steps >= 2 and end > begin:
            overlap = np.clip(np.minimum(last, end) - np.maximum(first, begin), 0.0, None) / (end - begin)
            prompts = (first > begin) & (first <= end)
            decoding = overlap.sum() * steps
            rows.append(
                [steps, computed[prompts].sum(), decoding + prompts.sum(), (overlap * context).sum() * steps, 0.0]
            )
            seconds.append(end - begin)
        is_here = (observed.sent < first[number]) & (last > observed.sent[number])
        if is_here.sum() == 1:
            chunks = -(-computed[number] // settings.max_num_batched_tokens)
            rows.append([chunks, computed[number], chunks, 0.0, 1.0])
            seconds.append(observed.ttft[number])
    return np.array(rows, dtype=float).reshape(-1, len(COEFFICIENTS)), np.maximum(seconds, CLOCK_SECONDS)


def _errors(ours: np.ndarray, theirs: np.ndarray) -> list[float]:
    """Relative errors, of times that a clock can tell."""
    is_told = np.isfinite(ours) & np.isfinite(theirs)
    error: list[float] = ((ours - theirs)[is_told] / np.maximum(theirs[is_told], CLOCK_SECONDS)).tolist()
    return error


def _summaries(times: Times, observed: Observed, which: np.ndarray) -> dict[str, Summary]:
    return {
        measure: summary(_errors(getattr(times, measure)[which], getattr(observed, measure)[which]))
        for measure in ("ttft", "tpot", "e2e")
    }
