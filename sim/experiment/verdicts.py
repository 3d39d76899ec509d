"""Verdicts: what the scenario expects, and each class's SLO attainment, held against what was measured.

The outcome is decided by `expect`, and where a scenario expects nothing by its SLOs. An invalid run decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from sim.experiment.columns import Requests
from sim.experiment.expectation import Expectation, parse
from sim.experiment.measures import GroupMeasures, Latency
from sim.experiment.quantiles import min_sample, quantiles, weighted_quantiles, wilson
from sim.experiment.schema import Scenario
from sim.experiment.slo import has_limits

ALL = "all"

Outcome = Literal["pass", "fail", "invalid"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One sentence and whether it came true. Lives in the summary, the report, the terminal and JUnit alike."""

    kind: Literal["expectation", "slo"]
    text: str
    subject: str
    measure: str
    comparison: str
    threshold: float
    value: float | None
    interval: tuple[float, float] | None
    """95 % interval of the value, None where there is none."""
    outcome: Outcome
    decides: bool
    """Whether the exit code hangs on it."""
    about: str = ""
    """Why there is no value, or that the threshold lies inside the interval."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What verdicts are held against. `counted` are the requests of the window."""

    groups: Mapping[str, GroupMeasures]
    counted: Requests
    inter_token: Latency
    gaps: tuple[tuple[float, float, float], ...]
    is_valid: bool


def verdicts_of(scenario: Scenario, measured: Measured) -> tuple[Verdict, ...]:
    """Judge every expectation, in the scenario's order, then each class's SLO that no expectation speaks of."""
    expectations = [parse(text) for text in scenario.expect]
    spoken_of = {one.subject for one in expectations if one.measure == "slo_attainment"}
    found = [_judge(one, "expectation", True, measured) for one in expectations]
    unspoken = [one for one in _slo_expectations(scenario) if one.subject not in spoken_of]
    return (*found, *(_judge(one, "slo", not expectations, measured) for one in unspoken))


def outcome_of(verdicts: tuple[Verdict, ...], is_valid: bool) -> Outcome:
    """Say how the run went: every verdict that decides passed, one failed, or nothing can be said."""
    if not is_valid:
        return "invalid"
    return "fail" if any(verdict.decides and verdict.outcome == "fail" for verdict in verdicts) else "pass"


def _slo_expectations(scenario: Scenario) -> Iterator[Expectation]:
    for traffic_class in scenario.workload.classes:
        if has_limits(traffic_class.slo):
            threshold = traffic_class.slo.attainment
            text = f"{traffic_class.name}.slo_attainment >= {threshold:g}"
            yield Expectation(text, traffic_class.name, "slo_attainment", ">=", threshold)


def _judge(one: Expectation, kind: Literal["expectation", "slo"], decides: bool, measured: Measured) -> Verdict:
    value, interval, about = _value(one, measured)
    outcome: Outcome = "pass" if one.holds(value) else "fail"
    if not measured.is_valid:
        value, interval, about, outcome = None, None, "the run is invalid", "invalid"
    if value is not None and interval is not None and one.holds(interval[0]) != one.holds(interval[1]):
        about = "close: the threshold lies inside the 95 % interval"
    return Verdict(
        kind,
        one.text,
        one.subject,
        one.measure,
        one.comparison,
        one.threshold,
        value,
        interval,
        outcome,
        decides,
        about,
    )


def _value(one: Expectation, measured: Measured) -> tuple[float | None, tuple[float, float] | None, str]:
    group = measured.groups.get(one.subject)
    if group is None:
        return None, None, f"there is no class {one.subject!r}; there are {', '.join(measured.groups)}"
    latency = one.percentile
    if latency is not None:
        return _latency_value(one.subject, *latency, measured)
    value: float | None = getattr(group, one.measure)
    if value is None:
        return None, None, f"no request of {one.subject} was scheduled in the window"
    return value, _share_interval(one.measure, group), ""


def _share_interval(measure: str, group: GroupMeasures) -> tuple[float, float] | None:
    match measure:
        case "slo_attainment":
            return group.slo_attainment_interval
        case "error_rate" | "refused_rate":
            share = getattr(group, measure) or 0.0
            return wilson(round(share * group.num_requests), group.num_requests)
    return None


def _latency_value(
    subject: str, latency: str, percentile: float, measured: Measured
) -> tuple[float | None, tuple[float, float] | None, str]:
    if latency == "itl":
        return _gap_value(subject, percentile, measured)
    counted = measured.counted
    values = getattr(counted, latency)[counted.is_ok & ((counted.traffic_class == subject) | (subject == ALL))]
    [found] = quantiles(values, [percentile])
    if found.value is None or found.low is None or found.high is None:
        return None, None, f"{found.num_values} values are too few: p{percentile:g} needs {min_sample(found.q)}"
    return found.value, (found.low, found.high), ""


def _gap_value(subject: str, percentile: float, measured: Measured) -> tuple[float | None, None, str]:
    if subject != ALL and len([name for name in measured.groups if name != ALL]) > 1:
        return None, None, "inter-token latency is pooled over all classes; expect it of `all`"
    import numpy as np

    gaps = np.asarray(measured.gaps, dtype=np.float64).reshape(-1, 3)
    [found] = weighted_quantiles(gaps[:, 0], gaps[:, 2], [percentile])
    if found.value is None:
        return None, None, f"{found.num_values} gaps are too few: p{percentile:g} needs {min_sample(found.q)}"
    return found.value, None, ""
