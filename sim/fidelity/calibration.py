"""Fits a step cost to requests that were measured on one replica: by flying them, and saying how sure the fit is.

What happened while an answer came (steps, prompts computed, context attended to) follows from the measured instants, so
the coefficients of a step are a linear regression. Half of the requests are fitted. All of them are then flown through
the engine at the fitted cost, at their measured arrivals, and the half that was not fitted is held against it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from reference.engine import EngineSettings, StepCost
from sim.experiment.errors import InputError
from sim.fidelity.closed_loop import ClosedLoopError, Times, fly_arrivals
from sim.fidelity.scoreboard import Summary, summary
from sim.hardware.closed_form import weighted

COEFFICIENTS: Final = ("overhead", "per_prefill_token", "per_sequence", "per_context_token", "request_seconds")
TYPICAL: Final = np.array([5e-3, 5e-5, 1e-4, 1e-7, 2e-3])
"""Sizes at which each coefficient matters, in seconds."""
FEWEST: Final = 20
"""Requests of which nothing can be learnt by five numbers and then checked."""
DRAWS: Final = 400
"""Of requests, with replacement, that tell how sure a fit is."""
NORMAL_95: Final = 1.96
CLOCK_SECONDS: Final = 2e-4
"""What a client's clock and its scheduling blur: errors below it are not resolved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Requests that one replica served, in order of sending. Shapes (requests,); seconds from any zero."""

    sent: np.ndarray
    input_tokens: np.ndarray
    output_tokens: np.ndarray
    ttft: np.ndarray
    tpot: np.ndarray
    """NaN for an answer of one token."""
    cached_tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.sent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A fit. `uncertainty` is half of the 95 % interval of each coefficient."""

    cost: StepCost
    request_seconds: float
    uncertainty: dict[str, float]
    fitted: dict[str, Summary]
    """Errors on the requests that were fitted, by measure."""
    held_out: dict[str, Summary]
    """Errors on those that were not."""
    num_requests: int
    doubts: tuple[str, ...] = field(default=())
    """What the requests could not tell, a sentence each."""


def calibrate(observed: Observed, settings: EngineSettings) -> Calibrated:
    """Fit every other request, and predict the ones between.

    Raises:
        InputError: too few requests, or the engine's settings cannot have served them.
    """
    if len(observed) < FEWEST:
        raise InputError(
            f"{len(observed)} requests succeeded; expected at least {FEWEST}, to fit some and to check the others"
        )
    is_fitted = np.arange(len(observed)) % 2 == 0
    design, seconds = _sums(observed, settings, is_fitted)
    if len(seconds) < 2 * len(COEFFICIENTS):
        raise InputError(
            f"only {len(seconds)} answers or idle arrivals can be fitted; expected at least {2 * len(COEFFICIENTS)}: "
            "more requests, with answers of three tokens and more"
        )
    found = weighted(design, seconds, 1.0 / seconds)
    half = _uncertainty(design, seconds)
    uncertainty = dict(zip(COEFFICIENTS, map(float, half), strict=True))
    cost, request_seconds = _cost(found)
    times = _flown(observed, settings, found)
    return Calibrated(
        cost=cost,
        request_seconds=request_seconds,
        uncertainty=uncertainty,
        fitted=_summaries(times, observed, is_fitted),
        held_out=_summaries(times, observed, ~is_fitted),
        num_requests=len(observed),
        doubts=tuple(_doubts(dict(zip(COEFFICIENTS, map(float, found), strict=True)), uncertainty)),
    )


def _cost(found: np.ndarray) -> tuple[StepCost, float]:
    overhead, prefill, sequence, context, request = map(float, found)
    return StepCost.linear(overhead, prefill, sequence, context), request


def _flown(observed: Observed, settings: EngineSettings, coefficients: np.ndarray) -> Times:
    cost, request_seconds = _cost(coefficients)
    # what a prefix cache answered was not computed
    computed = np.maximum(1, observed.input_tokens - observed.cached_tokens).astype(int)
    try:
        return fly_arrivals(
            settings,
            cost,
            observed.sent.tolist(),
            computed.tolist(),
            observed.output_tokens.astype(int).tolist(),
            request_seconds,
        )
    except ClosedLoopError as error:
        raise InputError(f"the engine as described could not have served this run: {error}") from error


def _errors(times: Times, observed: Observed, measure: str, which: np.ndarray) -> np.ndarray:
    """Relative errors, of times that a clock can tell."""
    ours, theirs = getattr(times, measure)[which], getattr(observed, measure)[which]
    told = np.isfinite(ours) & np.isfinite(theirs)
    error: np.ndarray = (ours[told] - theirs[told]) / np.maximum(theirs[told], CLOCK_SECONDS)
    return error


def _sums(observed: Observed, settings: EngineSettings, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the rows of a linear regression: how often each coefficient is in a time that was measured, and that time.

    While an answer of n tokens comes, n - 1 steps pass; who else decoded then, with how much context, and which prompts
    were computed, the measured instants tell. A first token on an idle replica is a prompt alone.
    """
    first = observed.sent + observed.ttft
    last = first + np.where(observed.output_tokens > 1, observed.tpot * (observed.output_tokens - 1), 0.0)
    computed = np.maximum(1, observed.input_tokens - observed.cached_tokens)
    context = observed.input_tokens + observed.output_tokens / 2
    rows, seconds = [], []
    for number in np.flatnonzero(which):
        begin, end, steps = first[number], last[number], observed.output_tokens[number] - 1
        if steps >= 2:
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


def _uncertainty(design: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Half of the 95 % interval: how far the fit moves when the requests are drawn again, and what a clock blurs."""
    chance = np.random.default_rng(0)
    drawn = chance.integers(0, len(seconds), (DRAWS, len(seconds)))
    fits = np.array([weighted(design[rows], seconds[rows], 1.0 / seconds[rows]) for rows in drawn])
    blur = CLOCK_SECONDS / np.maximum(design.mean(axis=0) / design.mean(axis=0)[0], 1e-9)
    return np.asarray(NORMAL_95 * np.sqrt(fits.var(axis=0) + (blur / np.sqrt(len(seconds))) ** 2))


def _summaries(times: Times, observed: Observed, which: np.ndarray) -> dict[str, Summary]:
    e2e = observed.ttft + np.where(observed.output_tokens > 1, observed.tpot * (observed.output_tokens - 1), 0.0)
    found = {m: summary(_errors(times, observed, m, which).tolist()) for m in ("ttft", "tpot")}
    found["e2e"] = summary((times.e2e[which] / e2e[which] - 1).tolist())
    return found


def _doubts(found: dict[str, float], uncertainty: dict[str, float]) -> list[str]:
    return [
        f"{name} is {found[name]:.3g} s give or take {uncertainty[name]:.3g}: these requests hardly tell it"
        for name in COEFFICIENTS
        if uncertainty[name] > max(found[name], 0.05 * float(TYPICAL[COEFFICIENTS.index(name)]))
    ]
