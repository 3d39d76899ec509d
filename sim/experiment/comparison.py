"""Two runs side by side: what got better, what got worse, and how sure that is.

When both flew the same workload they are paired by request (common random numbers), else compared as they are, and the
comparison says so. A row is `better` or `worse` when its interval excludes no difference and the difference is at least
the minimal effect; `same` when it is less than that, or the interval leaves no room for more; else `unclear`. Runs of
different rungs are a prediction and a measurement: see `agreement`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sim.experiment.agreement import Agreement, agreement_of
from sim.experiment.columns import REFUSED, Bools, Floats, Requests, requests_of
from sim.experiment.differences import LEVEL, Row, judged, paired_share_bounds, unpaired_share_bounds
from sim.experiment.measures import window_of
from sim.experiment.quantiles import min_sample, quantile, significant
from sim.experiment.record import RunRecord
from sim.experiment.resampling import BlockBootstrap, interval
from sim.experiment.schema import Scenario
from sim.experiment.slo import good, slos_of
from sim.experiment.summary import summarise
from sim.experiment.verdicts import ALL

MINIMAL_EFFECT = 0.02
SHARE_EFFECT_RATIO = 0.25
"""The minimal effect on a share, in absolute terms, is this part of the one on a latency: 2 % and half a point."""

PERCENTILES = (50.0, 90.0, 95.0, 99.0)
LATENCIES = ("ttft", "tpot", "e2e")
SHARES = ("slo_attainment", "error_rate", "refused_rate")
RATES = ("goodput", "throughput", "output_tokens_per_second")
COSTS = ("cost_per_hour", "cost_per_million_output_tokens")

GRID = (1, *range(5, 96, 5), 99)
"""The percentiles of a curve."""

MIN_CURVE_POINTS = 5


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two runs say against each other. `rows` is empty when one of them is invalid."""

    names: tuple[str, str]
    rungs: tuple[str, str]
    is_paired: bool
    num_pairs: int
    minimal_effect: float
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    quantile_curves: Mapping[str, Mapping[str, list[float | None]]]
    """latency → {"q", "a", "b", "error"}: quantiles of both, and B's relative to A's."""
    agreement: Agreement | None = None
    """When the rungs differ: how well the prediction holds."""

    @property
    def worse(self) -> tuple[Row, ...]:
        """The rows that got significantly worse."""
        return tuple(row for row in self.rows if row.verdict == "worse")

    @property
    def exit_code(self) -> int:
        """3 when a run is invalid, 1 when something got significantly worse; 0 of a prediction and its measurement."""
        if not self.rows:
            return 3
        return 1 if self.worse and self.agreement is None else 0

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON would hold it."""
        return asdict(self) | {"exit_code": self.exit_code}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two runs: its requests in the window, in order of time, which were good, and its summary."""

    name: str
    requests: Requests
    is_good: Bools
    summary: Mapping[str, Any]


def compare(
    a: RunRecord,
    b: RunRecord,
    scenario_a: Scenario,
    scenario_b: Scenario,
    *,
    names: tuple[str, str] = ("A", "B"),
    minimal_effect: float = MINIMAL_EFFECT,
    seed: int = 0,
) -> Comparison:
    """Compare B with A. Deterministic: the bootstrap draws from `seed`."""
    is_paired = (
        a.workload_hash == b.workload_hash and a.rung != "" and len(a.requests["index"]) == len(b.requests["index"])
    )
    sides = (_side(names[0], a, scenario_a), _side(names[1], b, scenario_b))
    common = {"names": names, "rungs": (a.rung, b.rung), "is_paired": is_paired, "minimal_effect": minimal_effect}
    notes = tuple(_notes(a, b, sides, is_paired))
    if not all(side.summary["validity"]["is_valid"] for side in sides):
        return Comparison(**common, num_pairs=0, rows=(), notes=notes, quantile_curves={})  # type: ignore[arg-type]
    if is_paired:
        sides = _paired(*sides)
    judge = _Judge(is_paired, minimal_effect, seed)
    rows = [row for group in _groups(*sides) for row in judge.rows(group, *sides)]
    return Comparison(
        **common,  # type: ignore[arg-type]
        num_pairs=len(sides[0].requests) if is_paired else 0,
        rows=(*rows, *_shown(*sides)),
        notes=notes,
        quantile_curves=_curves(*sides),
        agreement=agreement_of(a, b, sides[0].requests, sides[1].requests) if a.rung != b.rung else None,
    )


def _side(name: str, record: RunRecord, scenario: Scenario) -> Side:
    requests = requests_of(record)
    counted = requests.where(window_of(record).holds(requests.scheduled))
    return Side(name, counted, good(counted, slos_of(scenario.workload.classes)), summarise(record, scenario))


def _paired(a: Side, b: Side) -> tuple[Side, Side]:
    """Keep the requests that are in the window of both."""
    _, at_a, at_b = np.intersect1d(a.requests.index, b.requests.index, return_indices=True)
    return _taken(a, np.sort(at_a)), _taken(b, np.sort(at_b))


def _taken(side: Side, at: Any) -> Side:
    return Side(side.name, side.requests.where(at), side.is_good[at], side.summary)


def _groups(a: Side, b: Side) -> list[str]:
    classes = sorted(set(a.requests.traffic_class.tolist()) & set(b.requests.traffic_class.tolist()))
    return [ALL, *classes] if len(classes) > 1 else [ALL]


class _Judge:
    """Makes the rows of one comparison, by one set of draws per group."""

    def __init__(self, is_paired: bool, minimal_effect: float, seed: int) -> None:
        self._is_paired = is_paired
        self._effect = minimal_effect
        self._seed = seed

    def rows(self, group: str, a: Side, b: Side) -> Iterator[Row]:
        """Judge the shares and latencies of one group."""
        mine, other = (_of_group(side, group) for side in (a, b))
        for measure in SHARES:
            yield self._share(group, measure, _events(mine, measure), _events(other, measure))
        draws = BlockBootstrap(len(mine.requests), self._seed)
        # without pairs the two runs are drawn apart
        other_draws = draws if self._is_paired else BlockBootstrap(len(other.requests), self._seed + 1)
        for measure in LATENCIES:
            yield from self._latency(group, measure, self._values(mine, other, measure), draws, other_draws)

    def _values(self, a: Side, b: Side, measure: str) -> tuple[Floats, Floats]:
        left, right = (np.where(side.requests.is_ok, getattr(side.requests, measure), np.nan) for side in (a, b))
        if self._is_paired:
            is_missing = np.isnan(left) | np.isnan(right)
            left, right = np.where(is_missing, np.nan, left), np.where(is_missing, np.nan, right)
        return left, right

    def _latency(
        self,
        group: str,
        measure: str,
        values: tuple[Floats, Floats],
        draws: BlockBootstrap,
        other_draws: BlockBootstrap,
    ) -> Iterator[Row]:
        shares = [percentile / 100 for percentile in PERCENTILES]
        num_values = min(int((~np.isnan(side)).sum()) for side in values)
        drawn_a, drawn_b = draws.quantiles(values[0], shares), other_draws.quantiles(values[1], shares)
        for column, share in enumerate(shares):
            at = f"p{share * 100:g}"
            if num_values < min_sample(share):
                yield Row(group, measure, at, None, None, None, None, None, "withheld")
                continue
            a, b = (quantile(side, share) for side in values)
            if not a or b is None:
                yield Row(group, measure, at, a, b, None, None, None, "withheld")
                continue
            bounds = interval(drawn_b[:, column] / drawn_a[:, column] - 1, LEVEL)
            yield judged(group, measure, at, a, b, b / a - 1, bounds, self._effect, is_more_better=False)

    def _share(self, group: str, measure: str, a: Bools, b: Bools) -> Row:
        share_a, share_b = float(a.mean()) if len(a) else 0.0, float(b.mean()) if len(b) else 0.0
        bounds = paired_share_bounds(a, b) if self._is_paired else unpaired_share_bounds(a, b)
        effect = self._effect * SHARE_EFFECT_RATIO
        more = measure == "slo_attainment"
        return judged(group, measure, "", share_a, share_b, share_b - share_a, bounds, effect, is_more_better=more)


def _of_group(side: Side, group: str) -> Side:
    return side if group == ALL else _taken(side, side.requests.traffic_class == group)


def _events(side: Side, measure: str) -> Bools:
    is_refused: Bools = side.requests.status == REFUSED
    match measure:
        case "slo_attainment":
            return side.is_good
        case "refused_rate":
            return is_refused
    return ~side.requests.is_ok & ~is_refused


def _shown(a: Side, b: Side) -> Iterator[Row]:
    """What stands beside the verdicts without one: rates follow from the load, and cost is a choice."""
    for measure in (*RATES, *COSTS):
        left, right = (_figure(side.summary, measure) for side in (a, b))
        if left is not None and right is not None:
            yield Row(
                ALL, measure, "", left, right, significant(right / left - 1) if left else None, None, None, "shown"
            )


def _figure(summary: Mapping[str, Any], measure: str) -> float | None:
    figure: float | None = summary["classes"][ALL].get(measure, summary["system"].get(measure))
    return figure


def _curves(a: Side, b: Side) -> dict[str, dict[str, list[float | None]]]:
    curves = {}
    for measure in LATENCIES:
        values = [getattr(side.requests, measure)[side.requests.is_ok] for side in (a, b)]
        known = [side[~np.isnan(side)] for side in values]
        num_values = min(len(side) for side in known)
        shares = [percent / 100 for percent in GRID if num_values >= min_sample(percent / 100)]
        if len(shares) < MIN_CURVE_POINTS:
            continue
        left, right = (np.quantile(side, shares, method="inverted_cdf") for side in known)
        error = right / np.where(left > 0, left, np.nan) - 1
        columns = {"q": np.asarray(shares), "a": left, "b": right, "error": error}
        curves[measure] = {name: [significant(value) for value in column.tolist()] for name, column in columns.items()}
    return curves


def _notes(a: RunRecord, b: RunRecord, sides: tuple[Side, Side], is_paired: bool) -> Iterator[str]:
    if not is_paired:
        yield (
            "Not paired: the two runs flew different workloads, so part of every difference is the workload's. "
            "Intervals are wider for it."
        )
    if a.scenario_yaml == b.scenario_yaml and a.rung == b.rung and a.seed == b.seed:
        yield "Both runs flew the same scenario with the same seed."
    for side in sides:
        for finding in side.summary["validity"]["findings"]:
            if finding["invalidates"]:
                yield f"{side.name} is invalid and cannot be compared: {finding['text']}"
            elif finding["kind"] in ("contaminated", "backlog", "unfinished"):
                yield f"{side.name}: {finding['text']}"
    yield from _about_caches(a, b, sides)


def _about_caches(a: RunRecord, b: RunRecord, sides: tuple[Side, Side]) -> Iterator[str]:
    if a.scenario_yaml != b.scenario_yaml or not all(side.summary["validity"]["is_valid"] for side in sides):
        return
    shares = [side.summary["classes"][ALL]["cached_token_share"] or 0.0 for side in sides]
    if abs(shares[1] - shares[0]) > 0.05:
        yield (
            f"The same scenario found {shares[0]:.0%} of its prompt tokens cached in {sides[0].name} and "
            f"{shares[1]:.0%} in {sides[1].name}: one of them may have begun with warm prefix caches."
        )
