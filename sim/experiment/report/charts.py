"""What the charts of a report draw: one JSON value. Colours, sizes and words of the page are the page's own business.

Seconds, rates per second, shares 0 to 1; null where nothing was seen; four significant digits are enough to draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sim.experiment.columns import Floats, Requests, requests_of
from sim.experiment.comparison import Comparison
from sim.experiment.measures import Window, tokens_within, window_of
from sim.experiment.record import RunRecord
from sim.experiment.report.timeline import (
    BucketedSamples,
    Buckets,
    buckets_for,
    end_of,
    lost,
    nan_max,
    nan_mean,
    nan_sum,
)
from sim.experiment.schema import Scenario
from sim.experiment.slo import good, has_limits, slos_of

DIGITS = 4
CURVE_POINTS = 240
MAX_HEAT_ROWS = 64
MAX_EVENTS = 200
MAX_SHARE_BUCKETS = 120
"""Shares are drawn coarser: of few requests a share says little."""

RATE_BINS = 12
MIN_PER_BIN = 30

HEAT_MEASURES = ("running", "queue_depth", "kv_usage")


def charts(record: RunRecord, scenario: Scenario, comparison: Comparison | None = None) -> dict[str, Any]:
    """Compute everything that is drawn."""
    requests = requests_of(record)
    end = end_of(record, requests)
    buckets = buckets_for(end)
    samples = BucketedSamples(record, buckets)
    window = window_of(record)
    return {
        "bucket_seconds": buckets.seconds,
        "num_buckets": buckets.count,
        "window": [window.start, window.end],
        "faults": _faults(record),
        "timeline": _timeline(requests, buckets, samples),
        "attainment": _attainment(requests, scenario, buckets_for(end, MAX_SHARE_BUCKETS), window),
        "attainment_seconds": buckets_for(end, MAX_SHARE_BUCKETS).seconds,
        "heat": _heat(samples),
        "latency": _latency(requests, scenario, window),
        "errors": None if comparison is None else {k: dict(v) for k, v in comparison.quantile_curves.items()},
    }


def numbers(values: Floats) -> list[float | None]:
    """Round for drawing."""
    return [None if value != value else float(f"{value:.{DIGITS}g}") for value in values.tolist()]


def _timeline(requests: Requests, buckets: Buckets, samples: BucketedSamples) -> dict[str, Any]:
    is_lost = lost(requests)
    kv = samples.over("replica", "kv_usage")
    pools = samples.components("pool", "ready")
    succeeded = requests.where(~is_lost)
    resends = samples.of("clients", "resends")
    drawn = {"resends": numbers(resends)} if not np.isnan(resends).all() else {}
    return drawn | {
        "offered": numbers(buckets.rate(requests.scheduled)),
        "completed": numbers(buckets.rate(succeeded.ended)),
        "lost": numbers(buckets.rate(requests.ended[is_lost])),
        "tokens": numbers(_token_rate(requests, buckets)),
        "ttft_p50": numbers(buckets.quantile(succeeded.scheduled, succeeded.ttft, 0.5)),
        "ttft_p95": numbers(buckets.quantile(succeeded.scheduled, succeeded.ttft, 0.95)),
        "in_flight": numbers(samples.of("gateway", "in_flight")),
        "router_queue": numbers(samples.of("router", "queue")),
        "running": numbers(nan_sum(samples.over("replica", "running"))),
        "queue_depth": numbers(nan_sum(samples.over("replica", "queue_depth"))),
        "kv_mean": numbers(nan_mean(kv)),
        "kv_max": numbers(nan_max(kv)),
        "replicas": {pool.partition("/")[2]: numbers(samples.of(pool, "ready")) for pool in pools},
    }


def _token_rate(requests: Requests, buckets: Buckets) -> Floats:
    # answers that were cut short hold tokens too; a bucket is a small window
    counted = requests.where(~np.isnan(requests.first_token) & ~np.isnan(requests.last_token))
    order = np.argsort(counted.first_token, kind="stable")
    counted = counted.where(order)
    reach = np.maximum.accumulate(counted.last_token) if len(counted) else counted.last_token
    rates = np.zeros(buckets.count)
    for at, start in enumerate(buckets.starts):
        end = start + buckets.seconds
        first = int(np.searchsorted(reach, start))
        last = int(np.searchsorted(counted.first_token, end))
        if last > first:
            part = counted.where(np.arange(first, last))
            rates[at] = tokens_within(part, Window(float(start), float(end))).sum() / buckets.seconds
    return rates


def _attainment(requests: Requests, scenario: Scenario, buckets: Buckets, window: Window) -> list[dict[str, Any]]:
    slos = slos_of(scenario.workload.classes)
    counted = requests.where(window.holds(requests.scheduled))
    is_good = good(counted, slos)
    found = []
    for name, slo in slos.items():
        mine = counted.traffic_class == name
        if not mine.any():
            continue
        scheduled, my_good = counted.scheduled[mine], is_good[mine]
        found.append(
            {
                "name": name,
                "target": slo.attainment if has_limits(slo) else None,
                "over_time": numbers(buckets.share(scheduled, my_good)),
                "against_rate": _against_rate(scheduled, my_good, counted.scheduled, buckets),
            }
        )
    return found


def _against_rate(scheduled: Floats, is_good: Any, everything: Floats, buckets: Buckets) -> list[list[float | None]]:
    """Return (offered rate, attainment) with requests grouped by the rate of the bucket that they came in."""
    rates = buckets.rate(everything)[buckets.of(scheduled)]
    edges = np.unique(np.quantile(rates, np.linspace(0, 1, RATE_BINS + 1)))
    at = np.clip(np.searchsorted(edges, rates, side="right") - 1, 0, max(len(edges) - 2, 0))
    points = []
    for place in range(max(len(edges) - 1, 1)):
        here = at == place
        if here.sum() >= MIN_PER_BIN:
            points.append(numbers(np.asarray([rates[here].mean(), is_good[here].mean()])))
    return points


def _heat(samples: BucketedSamples) -> dict[str, Any]:
    measured = [measure for measure in HEAT_MEASURES if samples.components("replica", measure)]
    names = samples.components("replica", measured[0]) if measured else []
    shown = names[:MAX_HEAT_ROWS]
    return {
        "replicas": [name.partition("/")[2] for name in shown],
        "num_left_out": len(names) - len(shown),
        "measures": {measure: [numbers(samples.of(name, measure)) for name in shown] for measure in measured},
    }


def _latency(requests: Requests, scenario: Scenario, window: Window) -> dict[str, Any]:
    counted = requests.where(window.holds(requests.scheduled) & requests.is_ok)
    found: dict[str, Any] = {}
    for latency in ("ttft", "tpot", "e2e"):
        curves = []
        for one in scenario.workload.classes:
            values = getattr(counted, latency)[counted.traffic_class == one.name]
            values = np.sort(values[~np.isnan(values)])
            if len(values):
                curve = _curve(values)
                curves.append({"name": one.name, "limit": getattr(one.slo, latency), "x": curve[0], "y": curve[1]})
        found[latency] = curves
    return found


def _curve(ordered: Floats) -> tuple[list[float | None], list[float | None]]:
    """Thin a distribution: evenly by rank, and twice as dense in the last hundredth, where the tail is."""
    count = len(ordered)
    even = np.linspace(0, count - 1, min(count, CURVE_POINTS))
    tail = np.linspace(0.99 * (count - 1), count - 1, min(count, CURVE_POINTS // 4))
    ranks = np.unique(np.concatenate((even, tail)).round().astype(np.intp))
    return numbers(ordered[ranks]), numbers((ranks + 1) / count)


def _faults(record: RunRecord) -> list[Mapping[str, Any]]:
    keys = ("at", "kind", "target", "lasts", "about")
    return [{key: event.get(key) for key in keys} for event in record.events[:MAX_EVENTS]]
