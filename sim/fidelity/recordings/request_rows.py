"""Requests of any format, made into what a fit takes: checked, sorted by sending, failures left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path

import numpy as np

from sim.experiment.errors import InputError
from sim.fidelity.observed import Observed


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """One request that succeeded. Seconds."""

    sent: float
    input_tokens: float
    output_tokens: float
    ttft: float
    tpot: float | None
    """None for an answer of one token."""
    cached_tokens: float = 0.0


def observed(rows: Iterable[RequestRow], path: Path) -> Observed:
    """Sort and check rows.

    Raises:
        InputError: a row cannot have been measured.
    """
    ordered = sorted(rows, key=lambda row: row.sent)
    for row in ordered:
        _check(row, path)
    columns = {
        name: np.array([getattr(row, name) for row in ordered], dtype=float)
        for name in ("sent", "input_tokens", "output_tokens", "ttft", "cached_tokens")
    }
    tpot = np.array([nan if row.tpot is None else row.tpot for row in ordered], dtype=float)
    if len(ordered):
        columns["sent"] -= columns["sent"][0]
    return Observed(tpot=np.where(columns["output_tokens"] > 1, tpot, nan), **columns)


def tpot_of(e2e: float, ttft: float, output_tokens: float) -> float | None:
    """Give the time per output token after the first; None for an answer of one token."""
    return (e2e - ttft) / (output_tokens - 1) if output_tokens > 1 else None


def _check(row: RequestRow, path: Path) -> None:
    wrong = next(
        (
            f"{name} is {value:g}; expected {expected}"
            for name, value, is_right, expected in (
                ("input_tokens", row.input_tokens, row.input_tokens >= 1, "at least 1"),
                ("output_tokens", row.output_tokens, row.output_tokens >= 1, "at least 1"),
                ("cached_tokens", row.cached_tokens, 0 <= row.cached_tokens <= row.input_tokens, "0 to input_tokens"),
                ("sending", row.sent, isfinite(row.sent), "a number of seconds"),
                ("TTFT", row.ttft, isfinite(row.ttft) and row.ttft > 0, "more than 0 seconds, by one clock"),
                ("TPOT", row.tpot or 0.0, row.tpot is None or 0 <= row.tpot < float("inf"), "0 or more seconds"),
            )
            if not is_right
        ),
        None,
    )
    if wrong:
        raise InputError(f"{path}: in the request sent at {row.sent:g} s, {wrong}")
