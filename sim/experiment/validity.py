"""Whether a run's figures may be believed: what makes it invalid, and what a reader should know beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sim.experiment.columns import Requests
from sim.experiment.measures import GroupMeasures, Window
from sim.experiment.quantiles import min_sample, quantile
from sim.experiment.record import RunRecord
from sim.experiment.schema import Slo

MIN_LAG_LIMIT_SECONDS = 0.010
LAG_SHARE_OF_TTFT = 0.05
MIN_ACHIEVED = 0.98
"""Of the offered requests, those sent by the end of the window."""

BACKLOG_FACTOR = 2.0
MIN_BACKLOG = 8.0
"""Requests in flight more in the last fifth of the window than in the first, before anybody speaks of a backlog."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about a run. `invalidates`: its figures must not be given."""

    kind: Literal["send_lag", "achieved", "empty", "contaminated", "few_samples", "backlog", "unfinished", "left_out"]
    text: str
    invalidates: bool = False


@dataclass(frozen=True, slots=True)
class Validity:
    """The findings about a run with the figures of its load generator, in seconds and as a share."""

    send_lag_p99: float | None
    send_lag_limit: float
    achieved: float | None
    findings: tuple[Finding, ...]

    @property
    def is_valid(self) -> bool:
        """Say whether its figures may be given."""
        return not any(finding.invalidates for finding in self.findings)


def judge(
    record: RunRecord,
    requests: Requests,
    window: Window,
    slos: Mapping[str, Slo],
    groups: Mapping[str, GroupMeasures],
    percentiles: Iterable[float],
) -> Validity:
    """Look for what would make a reader distrust the run."""
    counted = requests.where(window.holds(requests.scheduled))
    limit = lag_limit(slos)
    lag = quantile(counted.send_lag, 0.99)
    achieved = float((counted.sent <= window.end + limit).mean()) if len(counted) else None
    findings = [
        *_about_load(lag, limit, achieved),
        *_about_caches(record, requests),
        *_about_samples(groups, tuple(percentiles)),
        *_about_the_end(requests, window),
        *(Finding("left_out", sentence) for sentence in record.left_out),
    ]
    return Validity(lag, limit, achieved, tuple(findings))


def lag_limit(slos: Mapping[str, Slo]) -> float:
    """Return how late the load generator may be at p99: 10 ms, or 5 % of the tightest TTFT limit if that is more."""
    limits = [slo.ttft for slo in slos.values() if slo.ttft is not None]
    return max(MIN_LAG_LIMIT_SECONDS, LAG_SHARE_OF_TTFT * min(limits, default=0.0))


def _about_load(lag: float | None, limit: float, achieved: float | None) -> Iterator[Finding]:
    if achieved is None:
        yield Finding("empty", "No request was scheduled in the window, so there is nothing to measure.", True)
        return
    if lag is not None and lag > limit:
        yield Finding(
            "send_lag",
            f"The load generator was late: {lag * 1e3:.1f} ms at p99, and {limit * 1e3:.1f} ms is the limit. "
            "What was measured is the sender, not the cluster.",
            True,
        )
    if achieved < MIN_ACHIEVED:
        yield Finding(
            "achieved",
            f"Only {achieved:.1%} of the offered requests were sent in the window; {MIN_ACHIEVED:.0%} are needed.",
            True,
        )


def _about_caches(record: RunRecord, requests: Requests) -> Iterator[Finding]:
    if record.facts.get("prefix_caches") == "warm":
        yield Finding(
            "contaminated", "Prefix caches were declared warm: TTFT and cached tokens are not those of a cold start."
        )
        return
    warm = sorted(_endpoints_that_began_warm(requests))
    if warm:
        named = ", ".join(warm[:4]) + (f" and {len(warm) - 4} more" if len(warm) > 4 else "")
        yield Finding(
            "contaminated",
            f"The first request that {named} answered found its prompt cached already: an earlier run of this workload "
            "has warmed the prefix caches, and TTFT is too low.",
        )


def _endpoints_that_began_warm(requests: Requests) -> Iterator[str]:
    """A cold cache cannot have served the request that had its first token before any other of its endpoint."""
    answered = requests.where((requests.endpoint != "") & ~np.isnan(requests.first_token))
    # a request that failed may have filled a cache without showing which
    failures = requests.sent[~requests.is_ok & ~np.isnan(requests.sent)]
    first_failure = failures.min() if len(failures) else np.inf
    for endpoint in np.unique(answered.endpoint):
        here = answered.where(answered.endpoint == endpoint)
        first = int(np.argmin(here.first_token))
        is_alone = (here.first_token > here.first_token[first]).sum() == len(here) - 1
        if is_alone and here.cached_tokens[first] > 0 and here.first_token[first] < first_failure:
            yield str(endpoint)


def _about_samples(groups: Mapping[str, GroupMeasures], percentiles: tuple[float, ...]) -> Iterator[Finding]:
    for name, group in groups.items():
        count = group.latencies["ttft"].num_values
        withheld = [f"p{p:g} (needs {min_sample(p / 100)})" for p in percentiles if count < min_sample(p / 100)]
        if withheld and group.num_requests:
            who = "In all" if name == "all" else f"Of {name}"
            yield Finding("few_samples", f"{who} {count} requests were measured, too few for {', '.join(withheld)}.")


def _about_the_end(requests: Requests, window: Window) -> Iterator[Finding]:
    num_unfinished = int((requests.status == "cancelled").sum())
    if num_unfinished:
        yield Finding(
            "unfinished", f"{num_unfinished} requests were still open when the flight was ended, and count as failed."
        )
    fifth = window.seconds / 5
    if not fifth:
        return
    ended = np.where(np.isnan(requests.ended), np.inf, requests.ended)
    first, last = (
        float(Window(start, start + fifth).overlap(requests.sent, ended).sum()) / fifth
        for start in (window.start, window.end - fifth)
    )
    if last > BACKLOG_FACTOR * first and last > first + MIN_BACKLOG:
        yield Finding(
            "backlog",
            f"Not stationary: {first:.1f} requests were in flight in the first fifth of the window and "
            f"{last:.1f} in the last. In a longer window latencies would differ.",
        )
