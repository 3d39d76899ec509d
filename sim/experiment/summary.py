"""The summary of a run: one JSON value, the same for the same record, that goldens, report, terminal and JUnit read.

Figures are rounded to six significant digits. Seconds, rates per second, shares 0 to 1; a percentile that the sample
does not support is null. Of an invalid run the figures are null, and `validity` says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from sim.experiment.columns import Requests, requests_of
from sim.experiment.measures import (
    GroupMeasures,
    Latency,
    LittlesLaw,
    Window,
    inter_token_latency,
    littles_law,
    measure,
    window_of,
)
from sim.experiment.quantiles import LEVEL, significant
from sim.experiment.record import RunRecord
from sim.experiment.schema import Scenario, Slo
from sim.experiment.slo import slos_of
from sim.experiment.validity import Validity, judge
from sim.experiment.verdicts import ALL, Measured, Verdict, outcome_of, verdicts_of

FORMAT = 1
DIGITS = 6


def summarise(record: RunRecord, scenario: Scenario) -> dict[str, Any]:
    """Measure a run and judge it against its scenario."""
    requests, window = requests_of(record), window_of(record)
    slos, percentiles = slos_of(scenario.workload.classes), scenario.measure.percentiles
    workload = scenario.workload
    class_names, tenant_names = [one.name for one in workload.classes], [one.name for one in workload.tenants]
    classes = _groups(requests, requests.traffic_class, class_names, window, slos, percentiles)
    groups = {ALL: measure(requests, window, slos, percentiles), **classes}
    inter_token, tokens_per_chunk = inter_token_latency(record, percentiles)
    validity = judge(record, requests, window, slos, groups, percentiles)
    counted = requests.where(window.holds(requests.scheduled))
    measured = Measured(groups, counted, inter_token, tuple(record.gaps), validity.is_valid)
    verdicts = verdicts_of(scenario, measured)
    summary = {
        "windtunnel_summary": FORMAT,
        "scenario": record.scenario_name,
        "about": scenario.about,
        "rung": record.rung,
        "seed": record.seed,
        "outcome": outcome_of(verdicts, validity.is_valid),
        "verdicts": [_verdict(verdict) for verdict in verdicts],
        "validity": _validity(validity),
        "window": {"start_seconds": window.start, "end_seconds": window.end},
        "workload": _workload(record, requests, counted),
        "refusals_and_failures": _reasons(counted),
        "decisions": _decisions(record),
        "events": dict(sorted(Counter(str(event.get("kind")) for event in record.events).items())),
        "left_out": list(record.left_out),
        "level": LEVEL,
        "classes": None,
        "tenants": None,
        "inter_token_latency": None,
        "system": None,
    }
    if validity.is_valid:
        summary["classes"] = {name: _group(group, slos.get(name)) for name, group in groups.items()}
        tenants = _groups(requests, requests.tenant, tenant_names, window, slos, percentiles)
        if len(tenants) > 1:
            summary["tenants"] = {name: _group(group, None) for name, group in tenants.items()}
        per_chunk = {"tokens_per_chunk": significant(tokens_per_chunk, DIGITS)}
        summary["inter_token_latency"] = _latency(inter_token) | per_chunk
        summary["system"] = _system(record, groups[ALL], littles_law(requests, window))
    return summary


def exit_code(summary: Mapping[str, Any]) -> int:
    """Return 0 of a run that passed, 1 of one that failed, 3 of an invalid one."""
    return {"pass": 0, "fail": 1, "invalid": 3}[summary["outcome"]]


def _groups(
    requests: Requests,
    labels: Any,
    declared: Iterable[str],
    window: Window,
    slos: Mapping[str, Slo],
    percentiles: tuple[float, ...],
) -> dict[str, GroupMeasures]:
    # a trace may bring tenants or classes that the scenario does not declare
    names = [*declared, *sorted(set(np.unique(labels).tolist()) - set(declared))]
    return {name: measure(requests.where(labels == name), window, slos, percentiles) for name in names}


def _group(group: GroupMeasures, slo: Slo | None) -> dict[str, Any]:
    found = asdict(group)
    latencies = found.pop("latencies")
    low, high = found.pop("slo_attainment_interval")
    rounded = {name: significant(value, DIGITS) if isinstance(value, float) else value for name, value in found.items()}
    return (
        rounded
        | {"slo_attainment_interval": [significant(low, DIGITS), significant(high, DIGITS)]}
        | ({"slo": slo.model_dump()} if slo is not None else {})
        | {"latency_seconds": {name: _latency(group.latencies[name]) for name in latencies}}
    )


def _latency(latency: Latency) -> dict[str, Any]:
    return {
        "num_values": latency.num_values,
        "mean": significant(latency.mean, DIGITS),
        "max": significant(latency.max, DIGITS),
        "percentiles": {
            f"p{one.q * 100:g}": None
            if one.value is None
            else {
                "value": significant(one.value, DIGITS),
                "low": significant(one.low, DIGITS),
                "high": significant(one.high, DIGITS),
            }
            for one in latency.quantiles
        },
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    found = asdict(verdict)
    found["value"] = significant(verdict.value, DIGITS)
    found["interval"] = verdict.interval and [significant(bound, DIGITS) for bound in verdict.interval]
    return found


def _validity(validity: Validity) -> dict[str, Any]:
    return {
        "is_valid": validity.is_valid,
        "send_lag_p99_seconds": significant(validity.send_lag_p99, DIGITS),
        "send_lag_limit_seconds": significant(validity.send_lag_limit, DIGITS),
        "achieved": significant(validity.achieved, DIGITS),
        "findings": [asdict(finding) for finding in validity.findings],
    }


def _workload(record: RunRecord, requests: Requests, counted: Requests) -> dict[str, Any]:
    facts = record.facts
    retries = {"client_retries": facts["client_retries"]} if "client_retries" in facts else {}
    return retries | {
        "hash": record.workload_hash,
        "num_requests": len(requests),
        "num_requests_in_window": len(counted),
        "rows_read": facts.get("rows_read", 0),
        "dropped": facts.get("dropped", {}),
        "notes": facts.get("notes", []),
        "input_tokens": int(np.nansum(requests.input_tokens)),
    }


def _reasons(counted: Requests) -> dict[str, int]:
    lost = counted.where(~counted.is_ok)
    pairs = zip(lost.status, lost.reason, strict=True)
    found = Counter(f"{status}: {reason or 'no reason given'}" for status, reason in pairs)
    return dict(sorted(found.items()))


def _decisions(record: RunRecord) -> dict[str, int]:
    return dict(sorted(Counter(row[4] for row in record.decisions).items()))


def _system(record: RunRecord, everything: GroupMeasures, little: LittlesLaw) -> dict[str, Any]:
    figures = {
        "mean_concurrency": little.mean_concurrency,
        "arrivals_per_second": little.arrivals_per_second,
        "mean_stay_seconds": little.mean_stay_seconds,
        "littles_law_ratio": little.ratio,
        **_cost(record, everything),
    }
    return {name: significant(value, DIGITS) for name, value in figures.items()}


def _cost(record: RunRecord, everything: GroupMeasures) -> dict[str, float | None]:
    per_hour = record.facts.get("cost_per_hour")
    per_output = per_good = None
    if per_hour is not None:
        if everything.output_tokens_per_second:
            per_output = per_hour / 3600 / everything.output_tokens_per_second * 1e6
        if everything.goodput:
            per_good = per_hour / 3600 / everything.goodput * 1e3
    return {
        "cost_per_hour": per_hour,
        "cost_per_million_output_tokens": per_output,
        "cost_per_thousand_good_requests": per_good,
    }
