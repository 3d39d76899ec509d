"""Prediction against measurement: whether the simulator agrees with a rung of real parts, and what may be why not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sim.experiment.columns import Requests
from sim.experiment.quantiles import min_sample, quantile, significant
from sim.experiment.record import RunRecord

PREDICTING_RUNG = "sim"
MEASURES = ("ttft_from_sent", "tpot", "e2e_from_sent")
"""From sent: the load generator's own lag is nothing that the simulator predicts."""

PERCENTILES = (50.0, 90.0)
TOLERANCE = 0.10
"""Of the measurement, at p50."""

BUSY_CPU_SHARE = 0.85
NOTABLE_LAG_SECONDS = 0.005
NOTABLE_CACHE_DIFFERENCE = 0.02


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """One quantile as predicted and as measured, in seconds; `error` is (predicted − measured) / measured."""

    measure: str
    at: str
    predicted: float | None
    measured: float | None
    error: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well the prediction holds. `reasons` are what is known to pull the two apart in this pair of runs."""

    predicted_rung: str
    measured_rung: str
    tolerance: float
    rows: tuple[AgreementRow, ...]
    agrees: bool
    text: str
    reasons: tuple[str, ...]


def agreement_of(a: RunRecord, b: RunRecord, requests_a: Requests, requests_b: Requests) -> Agreement:
    """Hold the simulated one of two runs against the other. Of two measured ones, A is taken for the prediction."""
    if b.rung == PREDICTING_RUNG:
        a, b, requests_a, requests_b = b, a, requests_b, requests_a
    rows = tuple(
        _row(measure, percentile, requests_a, requests_b) for measure in MEASURES for percentile in PERCENTILES
    )
    at_median = [row for row in rows if row.at == "p50" and row.error is not None]
    apart = [row for row in at_median if abs(row.error or 0.0) > TOLERANCE]
    reasons = tuple(_reasons(a, b, requests_a, requests_b))
    agrees = bool(at_median) and not apart
    return Agreement(a.rung, b.rung, TOLERANCE, rows, agrees, _text(at_median, apart, reasons), reasons)


def _row(measure: str, percentile: float, predicted: Requests, measured: Requests) -> AgreementRow:
    share, at = percentile / 100, f"p{percentile:g}"
    sides = [getattr(side, measure)[side.is_ok] for side in (predicted, measured)]
    if min(int((~np.isnan(side)).sum()) for side in sides) < min_sample(share):
        return AgreementRow(measure, at, None, None, None)
    left, right = (quantile(side, share) for side in sides)
    error = (left - right) / right if left is not None and right else None
    return AgreementRow(measure, at, significant(left), significant(right), significant(error))


def _text(at_median: list[AgreementRow], apart: list[AgreementRow], reasons: tuple[str, ...]) -> str:
    if not at_median:
        return f"Agreement within {TOLERANCE:.0%} at p50 cannot be judged: too few requests succeeded."
    if not apart:
        return f"Agrees within {TOLERANCE:.0%} at p50: yes."
    errors = ", ".join(f"{name_of(row.measure)} {row.error:+.0%}" for row in apart)
    no = f"Agrees within {TOLERANCE:.0%} at p50: no ({errors})"
    return f"{no}, because: {' '.join(reasons)}" if reasons else f"{no}; nothing in the two records says why."


def name_of(measure: str) -> str:
    """Return the name of a latency as people write it."""
    name, _, origin = measure.partition("_from_")
    return f"{name.upper()} from {origin}" if origin else name.upper()


def _reasons(predicted: RunRecord, measured: RunRecord, before: Requests, after: Requests) -> Iterator[str]:
    lag = quantile(after.send_lag, 0.99)
    if lag is not None and lag > NOTABLE_LAG_SECONDS:
        yield f"The load generator was {lag * 1e3:.1f} ms late at p99."
    busy = measured.diagnostics.get("cpu_busy_share")
    if isinstance(busy, int | float) and busy > BUSY_CPU_SHARE:
        yield f"The machine was {busy:.0%} busy, so measured times contain waiting for a processor."
    cached = [float(np.nansum(side.cached_tokens) / max(np.nansum(side.input_tokens), 1.0)) for side in (before, after)]
    if abs(cached[1] - cached[0]) > NOTABLE_CACHE_DIFFERENCE:
        yield f"Prompt tokens found cached differ: {cached[0]:.0%} predicted, {cached[1]:.0%} measured."
    lost = [1.0 - float(side.is_ok.mean()) if len(side) else 0.0 for side in (before, after)]
    if abs(lost[1] - lost[0]) > NOTABLE_CACHE_DIFFERENCE:
        yield f"Requests that did not succeed differ: {lost[0]:.1%} predicted, {lost[1]:.1%} measured."
    if predicted.workload_hash != measured.workload_hash:
        yield "The two flew different workloads."
    for sentence in measured.left_out:
        yield f"Left out by {measured.rung}: {sentence}"
