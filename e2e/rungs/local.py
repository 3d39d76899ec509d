"""The local rung: the real gateway, router and workers as processes on loopback, under the open-loop replay.

Workers are the emulated engine on the wall clock: the same engine and step cost as the simulator's, so that what
differs between the two records is the wire, the servers and the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from e2e.progress import Progress
from e2e.rungs import real_workers
from e2e.rungs.processes import Crew
from e2e.rungs.stack import Stack, add_stack
from sim.experiment.disaggregation import not_disaggregated
from sim.experiment.errors import InputError
from sim.experiment.record import RunRecord
from sim.experiment.resending import rules_of
from sim.experiment.scenario import LoadedScenario
from sim.experiment.schema import Scenario
from sim.experiment.workload import Workload

if TYPE_CHECKING:
    from e2e.replay import ReplayResult
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
    from e2e.replay import replay
    from e2e.rungs.deployed_flight import fill_decisions, fly_deployed

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

        def send(on_start: Callable[[float], None]) -> ReplayResult:
            return replay(
                workload,
                stack.gateway.url,
                api_keys=stack.keys,
                wording=wording,
                out_dir=out_dir,
                progress=progress,
                on_start=on_start,
                retries=rules_of(scenario),
            )

        result = fly_deployed(record, scenario, stack, crew, starting_seconds, send)
        fill_decisions(record, out_dir / "decisions.jsonl", result.zero)
    return record


def left_out(scenario: Scenario) -> list[str]:
    """Say what loopback cannot do of what a scenario asks."""
    sentences = []
    gpus = sorted({pool.gpu for pool in scenario.cluster.pools if pool.gpu})
    if gpus:
        sentences.append(f"No {', '.join(gpus)} on loopback: each worker is the emulated engine, timed as one.")
    sentences += not_disaggregated(scenario)
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


def _require_servers() -> None:
    try:
        import fastapi  # noqa: F401 asked for by the servers, in their own processes
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"the local rung is not run here, because {error.name} is not installed: pip install 'windtunnel[local]'"
        ) from error
