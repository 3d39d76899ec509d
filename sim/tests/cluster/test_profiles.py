"""Pools that fly by a profile: a file that `calibrate` wrote, or one of those that come with the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from reference.engine import StepCost
from sim.cluster.flight import fly
from sim.cluster.machines import machine_for
from sim.experiment.generate import build_workload
from sim.experiment.scenario import LoadedScenario, ScenarioError, parse
from sim.hardware.profile import Profile, find_profile, write_profile

SCENARIO = """\
windtunnel: 1
name: by-profile
workload:
  arrivals: {process: constant, rate: 1/s}
  duration: 3s
  lengths: {input: 64, output: 11}
cluster:
  network: {hop: 0s}
  gateway: {overhead: 0s}
  router: {policy: round_robin, overhead: 0s}
  pools:
    - {model: m, replicas: 1, max_model_len: 4096, profile: node.yaml}
"""


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A directory with a profile: 20 ms a step, 5 ms before each request, room for 8,192 tokens."""
    profile = Profile(name="node", cost=StepCost.linear(0.02), source="a test", kv_tokens=8192, request_seconds=0.005)
    write_profile(profile, tmp_path / "node.yaml")
    return tmp_path


def loaded(folder: Path, old: str = "", new: str = "") -> LoadedScenario:
    assert old in SCENARIO
    return parse(SCENARIO.replace(old, new) if old else SCENARIO, name="s.yaml", base_dir=folder)


def test_a_flight_takes_the_times_of_its_profile(
    node: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scenario = loaded(node)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    record = fly(scenario, build_workload(scenario))

    for sent, first, last in zip(
        *(record.requests[name] for name in ("sent", "first_token", "last_token")), strict=True
    ):
        assert first - sent == pytest.approx(0.025)
        assert last - first == pytest.approx(0.2)
    assert machine_for(scenario.scenario.cluster.pools[0]).settings.num_blocks == 512


def test_a_shipped_profile_is_found_by_gpu_and_model() -> None:
    pool = "model: Llama-3.1-8B-Instruct, engine: trt, gpu: h100-sxm, replicas: 1, profile: operators"
    scenario = parse(
        SCENARIO.replace("model: m, replicas: 1, max_model_len: 4096, profile: node.yaml", pool), name="s.yaml"
    )
    machine = machine_for(scenario.scenario.cluster.pools[0])
    keys = {
        "gpu": "h100-sxm",
        "model": "Llama-3.1-8B-Instruct",
        "engine": "trt",
        "weights": "bf16",
        "tensor_parallel": 1,
    }

    assert machine.cost == find_profile(**keys).cost
    assert machine.price_per_hour is not None


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("node.yaml", "nude.yaml", "s.yaml:12: cluster.pools.0.profile: 'nude.yaml'"),
        ("node.yaml", "operators", "expected a `gpu` beside it"),
        ("node.yaml", "node.yaml, step_cost: {base: 1ms}", "expected either `profile` or `step_cost`"),
        ("model: m,", "model: m, gpu: h100-sxm,", "unknown model 'm'"),
        (
            "model: m, replicas: 1, max_model_len: 4096, profile: node.yaml",
            "model: Mistral-7B-Instruct-v0.3, gpu: l40s, replicas: 1, profile: operators",
            "no profile of operator times for gpu l40s",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(node: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(ScenarioError) as raised:
        loaded(node, old, new)

    assert told in str(raised.value)
