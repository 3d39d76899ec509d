"""Fits a step cost to steps that an engine told one by one: a regression outright.

Steps come in long runs of nearly the same batch, so the halves are made of stretches of the recording and not of
single steps: a neighbour of a fitted step would have been predicted by it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from sim.experiment.errors import InputError
from sim.fidelity.calibrated import Calibrated, cost_of
from sim.fidelity.observed import Steps
from sim.fidelity.regression import COEFFICIENTS, DRAWS, doubts, solve, spread
from sim.fidelity.scoreboard import Summary, summary

FEWEST: Final = 40
STRETCHES: Final = 40
"""Into which a recording is cut; every other one is fitted."""
OUTLIER: Final = 5.0
"""Times what the first fit says, or a fifth of it: a step that waited for something else, as a compiler."""


def fit_steps(steps: Steps) -> Calibrated:
    """Fit every other stretch of steps, and predict the ones between.

    Raises:
        InputError: there are too few steps.
    """
    if len(steps) < FEWEST:
        raise InputError(f"{len(steps)} steps with something in them; expected at least {FEWEST}")
    knows_context = bool(np.isfinite(steps.context_tokens).all())
    names = COEFFICIENTS[: 4 if knows_context else 3]
    design = _design(steps, knows_context)
    stretch = np.arange(len(steps)) * min(STRETCHES, len(steps) // 2) // len(steps)
    is_fitted = stretch % 2 == 0
    is_usual = _usual(design, steps.seconds, is_fitted)
    rows, seconds, stretches = (column[is_fitted & is_usual] for column in (design, steps.seconds, stretch))
    found = solve(rows, seconds)
    places = [np.flatnonzero(stretches == which) for which in np.unique(stretches)]

    def again(drawn: np.ndarray, _: np.random.Generator) -> np.ndarray:
        chosen = np.concatenate([places[which] for which in drawn])
        return solve(rows[chosen], seconds[chosen], is_free=True)

    _, half = spread(len(places), again, DRAWS // 4)
    predicted = design @ found
    told = doubts(names, found, half)
    if left_out := int((~is_usual).sum()):
        told.append(f"{left_out} of {len(steps)} steps took over {OUTLIER:g} times as long as the others, or a fifth")
    if not knows_context:
        told.append("the context of each step is not told, so what attention costs is in the other coefficients")
    return Calibrated(
        cost=cost_of(np.concatenate([found, np.zeros(4 - len(found))])),
        request_seconds=0.0,
        told=names,
        uncertainty=dict(zip(names, map(float, half), strict=True)),
        fitted=_summary(predicted, steps.seconds, is_fitted & is_usual),
        held_out=_summary(predicted, steps.seconds, ~is_fitted & is_usual),
        num_rows=len(steps),
        rows="steps",
        doubts=(*told, "steps say nothing of what a request waits besides them: request_seconds is left at 0"),
    )


def _design(steps: Steps, knows_context: bool) -> np.ndarray:
    columns = [np.ones(len(steps)), steps.prompt_tokens, steps.sequences]
    if knows_context:
        columns.append(steps.context_tokens)
    return np.stack(columns, axis=1).astype(float)


def _usual(design: np.ndarray, seconds: np.ndarray, is_fitted: np.ndarray) -> np.ndarray:
    """Say which steps are not outliers of a first fit."""
    ratio = seconds / np.maximum(design @ solve(design[is_fitted], seconds[is_fitted]), 1e-9)
    ratio /= np.median(ratio)
    return np.asarray((ratio < OUTLIER) & (ratio > 1 / OUTLIER))


def _summary(predicted: np.ndarray, seconds: np.ndarray, which: np.ndarray) -> dict[str, Summary]:
    return {"step": summary((predicted[which] / seconds[which] - 1).tolist())}
