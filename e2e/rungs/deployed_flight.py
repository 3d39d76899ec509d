"""A flight at a stack that stands, be it of processes or of pods: sent, broken, scaled and watched, all at once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from e2e.replay import ReplayResult, fill
from e2e.rungs.busy import CpuBusy
from e2e.rungs.gauges import GaugeWatch
from e2e.rungs.mischief import Mischief
from e2e.rungs.parts import Deployed, Hands, S
from e2e.rungs.scaling import Scaling
from sim.experiment.disaggregation import with_prefill
from sim.experiment.record import RunRecord
from sim.experiment.samples import Samples
from sim.experiment.schema import Scenario

Send = Callable[[Callable[[float], None]], ReplayResult]
"""Replays the workload; it tells the function that it is given when zero is."""


def fly_deployed(
    record: RunRecord,
    scenario: Scenario,
    deployed: Deployed[S],
    hands: Hands[S],
    starting_seconds: float,
    send: Send,
    *,
    is_on_this_machine: bool = True,
) -> ReplayResult:
    """Fly, and fill the record with all but the router's decisions. `starting_seconds`: how long a worker takes."""
    gauges = GaugeWatch(deployed, scenario.measure.sample_interval)
    mischief = Mischief(scenario, hands, deployed, starting_seconds)
    scaling = Scaling(hands, deployed, starting_seconds)
    busy = CpuBusy()

    def on_start(zero: float) -> None:
        gauges.start(zero)
        mischief.start(zero)
        scaling.start(zero)
        busy.begin()

    try:
        result = send(on_start)
    finally:
        scaling.stop()
        mischief.stop()
        gauges.stop()
    fill(record, result)
    if is_on_this_machine:
        record.diagnostics["cpu_busy_share"] = busy.share()
    record.samples = Samples(gauges.samples)
    record.events = sorted([*mischief.events, *scaling.events], key=lambda event: event["at"])
    seconds = scaling.replica_seconds(result.wall_seconds)
    record.facts["replica_seconds"] = seconds
    record.facts["cost_per_hour"] = _cost_per_hour(scenario, seconds, result.wall_seconds)
    return result


def fill_decisions(record: RunRecord, log: Path, zero: float) -> None:
    """Read the router's log into the record: seconds since zero, index of the request, attempt, endpoint, reason.

    The router counts the attempts of each send anew; in a record they are numbered through.
    """
    with open(log, "rb") as lines:
        found = [_decision(json.loads(line), zero) for line in lines]
    record.decisions = [decision for decision in found if decision is not None]
    # which attempt and endpoint a request had, also where its answer did not say: the log knows of all of them
    attempts, endpoints = record.requests["attempts"], record.requests["endpoint"]
    made: Counter[int] = Counter()
    for place, (at, index, _, endpoint, reason, scores) in enumerate(record.decisions):
        if endpoint:
            made[index] += 1
            attempts[index], endpoints[index] = made[index], endpoint
        record.decisions[place] = (at, index, made[index], endpoint, reason, scores)


def _decision(entry: dict[str, Any], zero: float) -> Any:
    # the replay's request ids end in the index; the router adds its own serial
    index = entry["request"].partition("#")[0].rpartition("-")[2]
    if not index.isdigit() or entry["kind"] == "fail":
        return None
    scores = tuple((name, score) for name, score in entry.get("scores", ()))
    return entry["at"] - zero, int(index), entry["attempt"], entry["endpoint"], entry["reason"], scores


def _cost_per_hour(scenario: Scenario, seconds: dict[str, float], flown: float) -> float | None:
    """Return what the replicas cost in the mean, in US dollars; None when a pool names no GPU."""
    from sim.cluster.machines import machine_for

    cost = 0.0
    for pool in with_prefill(scenario.cluster.pools):
        price = machine_for(pool).price_per_hour
        if price is None:
            return None
        cost += price * seconds[pool.name or pool.engine] / flown
    return cost
