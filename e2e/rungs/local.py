"""The local rung: the real gateway, router and workers as processes on loopback, under the open-loop replay.

Workers are the emulated engine on the wall clock: the same engine and step cost as the simulator's, so that what
differs between the two records is the wire, the servers and the machine.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2e.progress import Progress
from e2e.rungs import real_workers
from e2e.rungs.busy import CpuBusy
from e2e.rungs.processes import Crew
from e2e.rungs.stack import Stack, add_stack
from sim.experiment.errors import InputError
from sim.experiment.record import RunRecord
from sim.experiment.scenario import LoadedScenario
from sim.experiment.schema import Scenario
from sim.experiment.workload import Workload

if TYPE_CHECKING:
    from e2e.replay.prompts import Wording

RUNG = "local"


def fly(
    loaded: LoadedScenario,
    workload: Workload,
    out_dir: Path,
    progress: Progress | None = None,
    *,
    seed: int | None = None,
) -> RunRecord:
    """Fly a workload through the scenario's cluster as processes; logs go to `out_dir`.

    Raises:
        InputError: a process did not come up (with the end of its log), or a library is missing.
    """
    from e2e.replay import fill, replay
    from e2e.rungs.gauges import GaugeWatch
    from e2e.rungs.mischief import Mischief
    from e2e.rungs.scaling import Scaling

    _require_servers()
    scenario = loaded.scenario
    real_workers.require_possible_faults(scenario)
    record = RunRecord(
        scenario_name=scenario.name,
        scenario_yaml=loaded.yaml_text,
        rung=RUNG,
        seed=scenario.seed if seed is None else seed,
        workload_hash=workload.content_hash,
        warm_up_seconds=scenario.measure.warm_up,
        duration_seconds=workload.duration_seconds,
        left_out=left_out(scenario),
    )
    with Crew(out_dir) as crew:
        stack = add_stack(crew, loaded)
        starting_seconds = stack.start()
        wording = wording_of(scenario, stack)
        gauges = GaugeWatch(stack, scenario.measure.sample_interval)
        mischief = Mischief(scenario, crew, stack, starting_seconds)
        scaling = Scaling(crew, stack, starting_seconds)
        busy = CpuBusy()

        def on_start(zero: float) -> None:
            gauges.start(zero)
            mischief.start(zero)
            scaling.start(zero)
            busy.begin()

        try:
            result = replay(
                workload,
                stack.gateway.url,
                api_keys=stack.keys,
                wording=wording,
                out_dir=out_dir,
                progress=progress,
                on_start=on_start,
            )
        finally:
            scaling.stop()
            mischief.stop()
            gauges.stop()
        fill(record, result)
        record.diagnostics["cpu_busy_share"] = busy.share()
        record.samples = gauges.samples
        record.events = sorted([*mischief.events, *scaling.events], key=lambda event: event["at"])
        record.decisions = read_decisions(out_dir / "decisions.jsonl", result.zero)
        attribute(record)
        seconds = scaling.replica_seconds(result.wall_seconds)
        record.facts["replica_seconds"] = seconds
        record.facts["cost_per_hour"] = cost_per_hour(scenario, seconds, result.wall_seconds)
    return record


def left_out(scenario: Scenario) -> list[str]:
    """Say what loopback cannot do of what a scenario asks."""
    sentences = []
    gpus = sorted({pool.gpu for pool in scenario.cluster.pools if pool.gpu})
    if gpus:
        sentences.append(f"No {', '.join(gpus)} on loopback: each worker is the emulated engine, timed as one.")
    sentences += real_workers.left_out(scenario)
    if scenario.cluster.gateway.replicas > 1:
        sentences.append(f"One gateway instead of {scenario.cluster.gateway.replicas}: there is no load balancer here.")
    return sentences


def wording_of(scenario: Scenario, stack: Stack) -> Wording | None:
    """Learn how words become tokens where a real model answers; the emulated engine takes each word for one."""
    from e2e.replay import get_to_know

    real = real_workers.real_pools(scenario)
    model = next((stack.pools[name].model for name, worker in real.items() if worker.kind != "bert"), None)
    if model is None:
        return None
    return get_to_know(stack.gateway.url, model, next(iter(stack.keys.values()))).wording


def read_decisions(path: Path, zero: float) -> list[Any]:
    """Read the router's log as the record has decisions: seconds since zero, index of the request."""
    with open(path, "rb") as lines:
        found = [_decision(json.loads(line), zero) for line in lines]
    return [decision for decision in found if decision is not None]


def _decision(entry: dict[str, Any], zero: float) -> Any:
    # the replay's request ids end in the index; the router adds its own serial
    index = entry["request"].partition("#")[0].rpartition("-")[2]
    if not index.isdigit() or entry["kind"] == "fail":
        return None
    scores = tuple((name, score) for name, score in entry.get("scores", ()))
    return entry["at"] - zero, int(index), entry["attempt"], entry["endpoint"], entry["reason"], scores


def attribute(record: RunRecord) -> None:
    """Say which attempt and endpoint a request had, also where its answer did not: the log knows of all of them."""
    attempts, endpoints = record.requests["attempts"], record.requests["endpoint"]
    for _, index, attempt, endpoint, _, _ in record.decisions:
        if endpoint:
            attempts[index], endpoints[index] = attempt, endpoint


def _require_servers() -> None:
    try:
        import fastapi  # noqa: F401 asked for by the servers, in their own processes
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"the local rung is not run here, because {error.name} is not installed: pip install 'windtunnel[local]'"
        ) from error


def cost_per_hour(scenario: Scenario, seconds: dict[str, float], flown: float) -> float | None:
    """Return what the replicas cost in the mean, in US dollars; None when a pool names no GPU."""
    from sim.cluster.machines import machine_for

    cost = 0.0
    for pool in scenario.cluster.pools:
        price = machine_for(pool).price_per_hour
        if price is None:
            return None
        cost += price * seconds[pool.name or pool.engine] / flown
    return cost
