"""Autoscaling on loopback: workers come when they are wanted, go when they are not, and nobody's request is lost."""

from __future__ import annotations

from pathlib import Path

from e2e.rungs.local import fly
from sim.experiment.generate import build_workload
from sim.experiment.scenario import parse

SCENARIO = """
windtunnel: 1
name: scaled
seed: 3
workload:
  arrivals: {process: stages, stages: [{lasts: 6s, rate: 12/s}, {lasts: 4s, rate: 1/s}]}
  lengths: {input: 60, output: 60}
cluster:
  router: {health_interval: 500ms}
  pools:
    - model: tiny
      step_cost: {base: 10ms}
      replicas: 1
      cold_start: 1s
      autoscale: {max_replicas: 2, metric: in_flight, target: 3, interval: 1s, stabilisation: 1s}
"""


def test_a_pool_grows_under_load_and_shrinks_after_it(tmp_path: Path) -> None:
    loaded = parse(SCENARIO)

    record = fly(loaded, build_workload(loaded), tmp_path)

    kinds = [event["kind"] for event in record.events]
    assert kinds[0] == "scale_up"
    assert {"scale_up", "replica_ready", "scale_down"} <= set(kinds)
    assert set(record.requests["status"]) == {"ok"}
    assert set(record.requests["endpoint"]) <= {"vllm-0", "vllm-1"}
    alone = 10.0
    assert alone < record.facts["replica_seconds"]["vllm"] < 2 * record.diagnostics["wall_seconds"]
