"""Small clusters and workloads for tests, made in code; a test names only what it is about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sim.cluster.flight import Flight
from sim.experiment.record import RunRecord
from sim.experiment.scenario import LoadedScenario
from sim.experiment.schema import Scenario
from sim.experiment.workload import Workload, WorkloadRequest

STEP = 0.01
"""Seconds of a step of the engines here, whatever the batch."""

HOP = 0.0002
OVERHEAD = 0.001


def scenario(*, pool: dict[str, Any] | None = None, base_dir: Path | None = None, **blocks: Any) -> LoadedScenario:
    """One pool `vllm` of two replicas with steps of 10 ms, changed as asked; `router` and `gateway` are its blocks."""
    pools = blocks.pop("pools", None) or [
        {"model": "m", "replicas": 2, "step_cost": {"base": STEP}, "num_gpu_blocks": 4096, **(pool or {})}
    ]
    cluster = {"pools": pools}
    for name in ("router", "gateway", "network"):
        if name in blocks:
            cluster[name] = blocks.pop(name)
    fields = {"windtunnel": 1, "name": "test", "workload": {}, "cluster": cluster, **blocks}
    return LoadedScenario(Scenario.model_validate(fields), "", Path("test.yaml"), base_dir or Path())


def workload(
    *requests: tuple[float, int, int] | WorkloadRequest, duration: float | None = None, **same: Any
) -> Workload:
    """Requests as (scheduled, input tokens, output tokens); `same` holds for each."""
    made = tuple(
        request if isinstance(request, WorkloadRequest) else WorkloadRequest(index, *request, "m", **same)
        for index, request in enumerate(requests)
    )
    return Workload(made, made[-1].scheduled + 1.0 if duration is None else duration, "hash")


@pytest.fixture(name="scenario")
def _scenario() -> Callable[..., LoadedScenario]:
    return scenario


@pytest.fixture(name="workload")
def _workload() -> Callable[..., Workload]:
    return workload


@pytest.fixture
def flown() -> Callable[..., RunRecord]:
    """Fly a workload through a scenario."""

    def fly_it(loaded: LoadedScenario, requests: Workload, **options: Any) -> RunRecord:
        flight = Flight(loaded, requests, **options)
        flight.run()
        return flight.record()

    return fly_it


@pytest.fixture
def same_record() -> Callable[[RunRecord, RunRecord], None]:
    """Assert that two records are the same in everything but diagnostics."""

    def compare(left: RunRecord, right: RunRecord) -> None:
        for name in ("requests", "samples", "decisions", "events", "gaps", "facts", "seed", "workload_hash"):
            assert repr(getattr(left, name)) == repr(getattr(right, name)), name

    return compare
