"""A flight over time, in few enough buckets to draw: rates, latencies, attainment, and what the cluster looked like.

All arrays have one value a bucket; NaN where nothing was seen. A bucket is named by where it begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from sim.experiment.columns import OK, Bools, Floats, Places, Requests
from sim.experiment.quantiles import quantile
from sim.experiment.record import RunRecord

MAX_BUCKETS = 400
NICE_SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)

MIN_SHARE_SAMPLE = 5
"""Requests that a bucket needs before a share of them is drawn."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """Equal stretches of time from zero to the end of the flight."""

    seconds: float
    count: int

    @property
    def starts(self) -> Floats:
        """Where each begins, in seconds."""
        starts: Floats = np.arange(self.count, dtype=np.float64) * self.seconds
        return starts

    def of(self, instants: Floats) -> Places:
        """Return the bucket of each instant; those outside go to the nearest."""
        return np.clip(np.nan_to_num(instants) // self.seconds, 0, self.count - 1).astype(np.intp)

    def counts(self, instants: Floats) -> Floats:
        """Count the instants in each bucket; NaN is in none."""
        known = instants[~np.isnan(instants)]
        return np.bincount(self.of(known), minlength=self.count).astype(np.float64)

    def rate(self, instants: Floats) -> Floats:
        """Return instants per second."""
        return self.counts(instants) / self.seconds

    def mean(self, instants: Floats, values: Floats) -> Floats:
        """Return the mean of the values in each bucket."""
        at = self.of(instants)
        count = np.bincount(at, minlength=self.count)
        total = np.bincount(at, weights=values, minlength=self.count)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def share(self, instants: Floats, is_counted: Bools) -> Floats:
        """Return which share of the instants in each bucket is counted; NaN where they are few."""
        everything = self.counts(instants)
        share = self.counts(instants[is_counted]) / np.maximum(everything, 1)
        return np.where(everything >= MIN_SHARE_SAMPLE, share, np.nan)

    def quantile(self, instants: Floats, values: Floats, q: float) -> Floats:
        """Return a quantile of the values in each bucket; NaN where they are few."""
        is_known = ~np.isnan(values)
        at = self.of(instants[is_known])
        order = np.argsort(at, kind="stable")
        parts = np.split(values[is_known][order], np.searchsorted(at[order], np.arange(1, self.count)))
        found = [quantile(part, q) if len(part) >= MIN_SHARE_SAMPLE else None for part in parts]
        return np.asarray([np.nan if value is None else value for value in found])


def buckets_for(end_seconds: float, most: int = MAX_BUCKETS) -> Buckets:
    """Choose buckets of a round length for a flight that ends then."""
    end = max(end_seconds, NICE_SECONDS[0])
    seconds = next((nice for nice in NICE_SECONDS if end / nice <= most), end / most)
    return Buckets(seconds, max(ceil(end / seconds), 1))


def end_of(record: RunRecord, requests: Requests) -> float:
    """Return when the last thing worth drawing happened."""
    ended = requests.ended[~np.isnan(requests.ended)]
    return max(record.duration_seconds, float(ended.max()) if len(ended) else 0.0)


class BucketedSamples:
    """The samples of a record by measure and component, averaged in buckets."""

    def __init__(self, record: RunRecord, buckets: Buckets) -> None:
        self._series = {
            (component, measure): buckets.mean(np.asarray(instants), np.asarray(values, dtype=np.float64))
            for component, measure, instants, values in sorted(record.samples.series(), key=lambda series: series[:2])
        }
        self._empty = np.full(buckets.count, np.nan)

    def components(self, kind: str, measure: str) -> list[str]:
        """Return the components of a kind, such as `replica`, that were sampled for a measure, in order of name."""
        found = [name for name, other in self._series if other == measure and name.partition("/")[0] == kind]
        return sorted(found, key=_natural)

    def of(self, component: str, measure: str) -> Floats:
        """Return one series; NaN throughout when it was not sampled."""
        return self._series.get((component, measure), self._empty)

    def over(self, kind: str, measure: str) -> Floats:
        """Return the series of every component of a kind, shape (components, buckets)."""
        series = [self.of(component, measure) for component in self.components(kind, measure)]
        return np.stack(series) if series else self._empty[np.newaxis]


def nan_sum(series: Floats) -> Floats:
    """Sum over components; NaN where none was seen."""
    return np.where(np.isnan(series).all(axis=0), np.nan, np.nansum(series, axis=0))


def nan_max(series: Floats) -> Floats:
    """Take the largest of the components; NaN where none was seen."""
    return np.where(np.isnan(series).all(axis=0), np.nan, np.fmax.reduce(series, axis=0))


def nan_mean(series: Floats) -> Floats:
    """Average over the components that were seen; NaN where none was."""
    seen = (~np.isnan(series)).sum(axis=0)
    return np.where(seen > 0, np.nansum(series, axis=0) / np.maximum(seen, 1), np.nan)


def lost(requests: Requests) -> Bools:
    """Return which requests did not succeed."""
    is_lost: Bools = requests.status != OK
    return is_lost


def _natural(name: str) -> tuple[str, int]:
    stem, _, ordinal = name.rpartition("-")
    return (stem, int(ordinal)) if ordinal.isdigit() else (name, -1)
