"""What a run is measured by: one module for every rung. Definitions are DESIGN.md's; figures are not rounded here.

Everything counts the requests scheduled in the window [warm up, duration), except rates of completion, which count what
happened inside it. Latencies are those of requests that succeeded; how many did not stands beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from sim.experiment.columns import OK, REFUSED, Bools, Floats, Requests
from sim.experiment.quantiles import Quantile, quantiles, weighted_quantiles, wilson
from sim.experiment.record import RunRecord
from sim.experiment.schema import Slo
from sim.experiment.slo import good

LATENCIES = ("ttft", "tpot", "e2e", "ttft_from_sent", "e2e_from_sent")
"""Per request; `ttft` and `e2e` count from the scheduled time."""


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the flight that is measured, in seconds since the run's zero."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return max(self.end - self.start, 0.0)

    def holds(self, instants: Floats) -> Bools:
        """Say which instants lie in it."""
        return (instants >= self.start) & (instants < self.end)

    def overlap(self, starts: Floats, ends: Floats) -> Floats:
        """Return how many seconds of each stretch lie in it; 0 for a stretch that never began or never ended."""
        clipped = np.minimum(ends, self.end) - np.maximum(starts, self.start)
        seconds: Floats = np.nan_to_num(np.maximum(clipped, 0.0))
        return seconds


@dataclass(frozen=True, slots=True)
class Latency:
    """One latency of one group, in seconds. `mean` and `max` are None when nothing was measured."""

    num_values: int
    mean: float | None
    max: float | None
    quantiles: tuple[Quantile, ...]


@dataclass(frozen=True, slots=True)
class GroupMeasures:
    """The measures of one group of requests: a class, a tenant, or all."""

    num_requests: int
    statuses: dict[str, int]
    num_good: int
    slo_attainment: float | None
    slo_attainment_interval: tuple[float, float]
    error_rate: float | None
    """Neither succeeded nor refused / all."""
    refused_rate: float | None
    goodput: float | None
    """Good requests per second of the window."""
    throughput: float | None
    """Successes that ended in the window, per second."""
    output_tokens_per_second: float | None
    """Tokens received in the window; an answer's tokens count as spread evenly from its first to its last."""
    input_tokens: int
    output_tokens: int
    cached_token_share: float | None
    """Cached / input tokens of successes."""
    latencies: dict[str, Latency]


@dataclass(frozen=True, slots=True)
class LittlesLaw:
    """Mean concurrency L beside arrival rate λ times mean stay W, in one window; they agree in a steady state."""

    mean_concurrency: float
    arrivals_per_second: float
    mean_stay_seconds: float

    @property
    def ratio(self) -> float | None:
        """L / (λ·W); None when nothing arrived."""
        expected = self.arrivals_per_second * self.mean_stay_seconds
        return self.mean_concurrency / expected if expected else None


def window_of(record: RunRecord) -> Window:
    """Return the window of a record."""
    return Window(record.warm_up_seconds, record.duration_seconds)


def measure(requests: Requests, window: Window, slos: Mapping[str, Slo], percentiles: Iterable[float]) -> GroupMeasures:
    """Measure a group of requests, which may hold ones from outside the window."""
    counted = requests.where(window.holds(requests.scheduled))
    succeeded = counted.where(counted.is_ok)
    count, num_good = len(counted), int(good(counted, slos).sum())
    names, counts = np.unique(counted.status, return_counts=True)
    statuses = {str(name): int(number) for name, number in zip(names, counts, strict=True)}
    num_refused = statuses.get(REFUSED, 0)
    num_failed = count - statuses.get(OK, 0) - num_refused
    wanted = tuple(percentiles)
    return GroupMeasures(
        num_requests=count,
        statuses=statuses,
        num_good=num_good,
        slo_attainment=_ratio(num_good, count),
        slo_attainment_interval=wilson(num_good, count),
        error_rate=_ratio(num_failed, count),
        refused_rate=_ratio(num_refused, count),
        goodput=_ratio(num_good, window.seconds),
        throughput=_ratio(int((requests.is_ok & window.holds(requests.ended)).sum()), window.seconds),
        output_tokens_per_second=_ratio(float(tokens_within(requests, window).sum()), window.seconds),
        input_tokens=int(np.nansum(counted.input_tokens)),
        output_tokens=int(np.nansum(counted.output_tokens)),
        cached_token_share=_ratio(float(np.nansum(succeeded.cached_tokens)), float(np.nansum(succeeded.input_tokens))),
        latencies={name: _latency(getattr(succeeded, name), wanted) for name in LATENCIES},
    )


def inter_token_latency(record: RunRecord, percentiles: Iterable[float]) -> tuple[Latency, float | None]:
    """Measure the pooled gaps between chunks, of the whole flight, and the mean number of tokens a chunk brought."""
    gaps = np.asarray(record.gaps, dtype=np.float64).reshape(-1, 3)
    seconds, tokens, counts = gaps[:, 0], gaps[:, 1], gaps[:, 2]
    total = float(counts.sum())
    found = weighted_quantiles(seconds, counts, percentiles)
    mean = float((seconds * counts).sum() / total) if total else None
    longest = float(seconds.max()) if total else None
    return Latency(round(total), mean, longest, tuple(found)), _ratio(float((tokens * counts).sum()), total)


def littles_law(requests: Requests, window: Window) -> LittlesLaw:
    """Hold concurrency in the window against the arrivals in it and how long those stayed."""
    ended = np.where(np.isnan(requests.ended), np.inf, requests.ended)
    stays = window.overlap(requests.sent, ended)
    arrived = window.holds(requests.sent)
    stay = requests.e2e_from_sent[arrived]
    stay = stay[~np.isnan(stay)]
    length = window.seconds or 1.0
    return LittlesLaw(
        mean_concurrency=float(stays.sum()) / length,
        arrivals_per_second=int(arrived.sum()) / length,
        mean_stay_seconds=float(stay.mean()) if len(stay) else 0.0,
    )


def tokens_within(requests: Requests, window: Window) -> Floats:
    """Return how many output tokens of each request fell in the window."""
    span = requests.last_token - requests.first_token
    is_spread = span > 0
    share = np.where(
        is_spread,
        window.overlap(requests.first_token, requests.last_token) / np.where(is_spread, span, 1.0),
        window.holds(requests.first_token).astype(np.float64),
    )
    tokens: Floats = np.nan_to_num(requests.output_tokens) * share
    return tokens


def _latency(values: Floats, percentiles: tuple[float, ...]) -> Latency:
    known = values[~np.isnan(values)]
    found = tuple(quantiles(known, percentiles))
    if not len(known):
        return Latency(0, None, None, found)
    return Latency(len(known), float(known.mean()), float(known.max()), found)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
