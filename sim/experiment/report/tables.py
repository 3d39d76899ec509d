"""Figures in words: how a report, a terminal and a CSV write a duration, a share, a rate and a verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sim.experiment.differences import Row
from sim.experiment.expectation import PLAIN_MEASURES

NOTHING = "–"

SHARES = ("slo_attainment", "error_rate", "refused_rate", "cached_token_share")
LATENCY_NAMES = {
    "ttft": "TTFT",
    "tpot": "TPOT",
    "e2e": "E2E",
    "ttft_from_sent": "TTFT from sent",
    "e2e_from_sent": "E2E from sent",
    "itl": "ITL",
}
MEASURE_NAMES = {
    "slo_attainment": "SLO attainment",
    "error_rate": "error rate",
    "refused_rate": "refused rate",
    "goodput": "goodput",
    "throughput": "throughput",
    "output_tokens_per_second": "output tokens per second",
    "cost_per_hour": "cost per hour",
    "cost_per_million_output_tokens": "cost per million output tokens",
} | LATENCY_NAMES


def duration(seconds: float | None) -> str:
    """Write a duration with three significant digits and a unit that suits it."""
    if seconds is None:
        return NOTHING
    if abs(seconds) < 1e-9:
        return "0 ms"
    if abs(seconds) < 0.9995e-3:
        return f"{seconds * 1e6:.3g} µs"
    if abs(seconds) < 0.9995:
        return f"{seconds * 1e3:.3g} ms"
    if abs(seconds) < 119.5:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def share(value: float | None) -> str:
    """Write a share as percent; what is not all, and not nothing, never rounds to it."""
    if value is None:
        return NOTHING
    percent = value * 100
    text = f"{percent:.2f}"
    if (text == "100.00" and value < 1) or (text == "0.00" and value > 0):
        return ">99.99 %" if value > 0.5 else "<0.01 %"
    return f"{text.rstrip('0').rstrip('.')} %"


def number(value: float | None) -> str:
    """Write a plain number with three significant digits, and with separators when it is large."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def money(value: float | None) -> str:
    """Write an amount of US dollars."""
    if value is None:
        return NOTHING
    return f"${value:,.2f}" if abs(value) >= 1 else f"${value:.3g}"


def figure(measure: str, value: float | None) -> str:
    """Write a value of a measure, `ttft_p95` or `goodput`, in its unit."""
    name = measure.rsplit("_p", 1)[0]
    if measure in SHARES:
        return share(value)
    if measure in PLAIN_MEASURES:
        return f"{number(value)}/s" if value is not None else NOTHING
    if measure.startswith("cost"):
        return money(value)
    return duration(value) if name in LATENCY_NAMES else number(value)


def change(row: Row, *, with_bounds: bool = True) -> str:
    """Write a difference in percent, or that of a share in points of it, with its bounds where it has any."""
    if row.difference is None:
        return NOTHING
    unit = "pp" if row.measure in SHARES else "%"
    said = f"{_signed(row.difference)} {unit}"
    if not with_bounds or row.low is None or row.high is None:
        return said
    return f"{said} [{_signed(row.low)}, {_signed(row.high)}]"


def _signed(ratio: float) -> str:
    return f"{ratio * 100:+.2g}" if abs(ratio) < 1 else f"{ratio * 100:+,.0f}"


def summary_rows(
    summary: Mapping[str, Any],
) -> Iterator[tuple[str, str, str, float | None, float | None, float | None]]:
    """Give every figure of a summary as (group kind, group, measure, value, low, high); nothing of an invalid run."""
    for kind in ("classes", "tenants"):
        for name, group in (summary[kind] or {}).items():
            for measure in (*PLAIN_MEASURES, "num_requests", "num_good", "cached_token_share"):
                low, high = group["slo_attainment_interval"] if measure == "slo_attainment" else (None, None)
                yield kind, name, measure, group[measure], low, high
            for latency, found in group["latency_seconds"].items():
                yield from _latency_rows(kind, name, latency, found)
    if summary["inter_token_latency"] is not None:
        yield from _latency_rows("classes", "all", "itl", summary["inter_token_latency"])
    for measure, value in (summary["system"] or {}).items():
        yield "system", "all", measure, value, None, None


def _latency_rows(
    kind: str, name: str, latency: str, found: Mapping[str, Any]
) -> Iterator[tuple[str, str, str, float | None, float | None, float | None]]:
    yield kind, name, f"{latency}_mean_seconds", found["mean"], None, None
    for percentile, estimate in found["percentiles"].items():
        value, low, high = (estimate or {}).get("value"), (estimate or {}).get("low"), (estimate or {}).get("high")
        yield kind, name, f"{latency}_{percentile}_seconds", value, low, high
