"""What was in the steps that a request waited for: counted in a flight, so that measured times regress on it.

A measured time is a sum over steps, and a step's time is linear in its coefficients. Which steps those were, a client
cannot see. A flight at a first guess of the cost tells it nearly right, because the batch depends on the cost only by
way of who overlaps with whom; regression and flight in turn settle within a few rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from reference.engine import EngineSettings, StepCost
from reference.engine.timeline import Span
from sim.experiment.errors import InputError
from sim.fidelity.closed_loop import ClosedLoopError, Times, fly_arrivals
from sim.fidelity.observed import Observed

CLOCK_SECONDS: Final = 2e-4
"""What a client's clock and its scheduling blur: shorter times are not resolved."""
SAME_INSTANT: Final = 1e-9
FEWEST_STEPS: Final = 2
"""Of an answer whose time is used: the gap of a single step is mostly the client's clock."""

FEWEST_ALONE: Final = 5
"""First tokens on an idle engine: the very first of a run may have waited for a start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flown:
    """A flight of what was observed, and the rows of a regression of the measured times."""

    times: Times
    design: np.ndarray
    """Shape (rows, coefficients): how often each coefficient is in a measured time."""
    seconds: np.ndarray
    """Shape (rows,): the measured times."""


def flown(observed: Observed, settings: EngineSettings, coefficients: np.ndarray, which: np.ndarray) -> Flown:
    """Fly all requests at their measured arrivals, and count what was in the times of those in `which`.

    Raises:
        InputError: the engine as described could not have served them.
    """
    overhead, prefill, sequence, context, request = map(float, coefficients)
    # what a prefix cache answered was not computed
    computed = np.maximum(1, observed.input_tokens - observed.cached_tokens).astype(int)
    spans: list[Span] = []
    try:
        times = fly_arrivals(
            settings,
            StepCost.linear(overhead, prefill, sequence, context),
            observed.sent.tolist(),
            computed.tolist(),
            observed.output_tokens.astype(int).tolist(),
            request,
            spans,
        )
    except ClosedLoopError as error:
        raise InputError(f"the engine as described could not have served this run: {error}") from error
    ends, totals = _totals(spans, observed, computed, times)
    design, seconds = _rows(observed, times, ends, totals, request, which)
    return Flown(times=times, design=design, seconds=seconds)


def _totals(spans: list[Span], observed: Observed, computed: np.ndarray, times: Times) -> tuple[np.ndarray, np.ndarray]:
    """Give the ends of spans, and what had been in all steps up to each: steps, prompt tokens, sequences, context."""
    first, last = observed.sent + times.ttft, observed.sent + times.e2e
    ends = np.array([span.end for span in spans])
    begun, ended = _places(ends, first), _places(ends, last)
    joining: list[list[int]] = [[] for _ in range(len(spans) + 1)]
    leaving: list[list[int]] = [[] for _ in range(len(spans) + 1)]
    for number, (joins, leaves) in enumerate(zip(begun, ended, strict=True)):
        joining[joins].append(number)
        leaving[leaves].append(number)
    step, base, unfinished = 0, 0.0, 0
    rows = np.zeros((len(spans) + 1, 4))
    for place, span in enumerate(spans):
        steps, decoding = span.num_steps, span.num_decoding
        context = base * steps + decoding * (step * steps + steps * (steps - 1) / 2)
        step += steps
        unfinished += span.prefill_tokens - int(computed[joining[place]].sum())
        prompts = len(joining[place]) + (unfinished > 0) if span.prefill_tokens else 0
        rows[place + 1] = steps, span.prefill_tokens, decoding * steps + prompts, context
        # the context of a decoding sequence is its length minus the steps so far, plus the steps at any later time
        for number in joining[place]:
            base += computed[number] + 1 - step
        for number in leaving[place]:
            base -= computed[number] + 1 - (step - (observed.output_tokens[number] - 1))
    return ends, np.cumsum(rows, axis=0)


def _rows(
    observed: Observed, times: Times, ends: np.ndarray, totals: np.ndarray, request: float, which: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give design and seconds: answers from first token to last, and first tokens that found the engine idle."""
    first, last, arrived = observed.sent + times.ttft, observed.sent + times.e2e, observed.sent + request
    at_arrival, at_first, at_last = (totals[np.searchsorted(ends, at + SAME_INSTANT)] for at in (arrived, first, last))
    is_answer = which & (observed.output_tokens > FEWEST_STEPS) & np.isfinite(observed.tpot)
    ended_before = np.searchsorted(np.sort(last), arrived + SAME_INSTANT)
    is_alone = which & (ended_before == np.arange(len(observed)))
    is_alone &= is_alone.sum() >= FEWEST_ALONE
    answers = np.column_stack([at_last - at_first, np.zeros(len(observed))])[is_answer]
    alone = np.column_stack([at_first - at_arrival, np.ones(len(observed))])[is_alone]
    measured = observed.tpot * (observed.output_tokens - 1)
    seconds = np.concatenate([measured[is_answer], observed.ttft[is_alone]])
    return np.concatenate([answers, alone]), np.maximum(seconds, CLOCK_SECONDS)


def _places(ends: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Find the span that ends at each of the instants."""
    return np.searchsorted(ends, at - SAME_INSTANT)
