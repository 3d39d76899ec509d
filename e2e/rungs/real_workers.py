"""Workers around real model servers, as a scenario's pool names them: bert, vllm, trt.

What they need is not installed with the harness: `bert` needs torch, `vllm` a vLLM beside it or in another Python.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from e2e.rungs.processes import Crew, Process
from sim.experiment.errors import InputError
from sim.experiment.schema import Pool, Scenario, Worker

GRACE_SECONDS = 2.0
"""What a stack on loopback gives streams under way, and then an engine, to end."""


def add_real_worker(crew: Crew, name: str, pool: Pool, worker: Worker, base_dir: Path) -> Process:
    """Work out the process of a replica that is a real model server; it is not started yet.

    Raises:
        InputError: its weights are not there.
    """
    directory = base_dir / worker.model_dir
    if not directory.is_dir():
        raise InputError(f"cluster.pools: {name}: worker.model_dir: {directory} is no directory")
    config: dict[str, Any] = {"model": pool.model, "model_dir": str(directory), "shutdown_seconds": GRACE_SECONDS}
    if worker.kind != "bert":
        config |= {"stop_seconds": GRACE_SECONDS, "max_restarts": 1, "start_seconds": worker.ready_within}
    return crew.add(name, f"reference.worker.{worker.kind}", config | worker.settings, ready_path="/readyz")


def seconds_until_ready(pools: list[Pool], otherwise: float) -> float:
    """Return how long a stack's workers may take to be ready."""
    return max([otherwise, *(pool.worker.ready_within for pool in pools if pool.worker is not None)])


def real_pools(scenario: Scenario) -> dict[str, Worker]:
    """Return the pools whose replicas are real model servers, by name."""
    pools = scenario.cluster.pools
    return {pool.name or pool.engine: pool.worker for pool in pools if pool.worker is not None}


def require_possible_faults(scenario: Scenario) -> None:
    """Check that nothing is to be broken that only the emulated engine lets be broken.

    Raises:
        InputError: a fault that no real model server can be told to have.
    """
    real = real_pools(scenario)
    for number, fault in enumerate(scenario.faults):
        is_real = fault.target in real or fault.target.rpartition("-")[0] in real
        if is_real and fault.kind != "replica_crash":
            raise InputError(
                f"faults[{number}]: {fault.kind} of {fault.target}: a real model server cannot be told to; "
                "expected replica_crash, or a pool without `worker`"
            )


def left_out(scenario: Scenario) -> list[str]:
    """Say which replicas are no emulated engines."""
    names = [f"{name} ({worker.kind})" for name, worker in real_pools(scenario).items()]
    if not names:
        return []
    return [f"Timing by the scenario's cluster of {', '.join(names)}: real model servers, as fast as this machine is."]
