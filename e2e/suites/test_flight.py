"""A scenario flown on the cluster by the command, faults and all, and nothing of it left there afterwards."""

import json

import pytest

from e2e.cli import run

SCENARIO = """\
windtunnel: 1
name: on-kind
about: Three small replicas, one of which dies, one of which is cut off for a while.
seed: 11
workload:
  arrivals: {process: poisson, rate: 4/s}
  duration: 50s
  lengths: {input: 200, output: 20}
  classes: [{name: chat, slo: {ttft: 5s, attainment: 0.5}}]
cluster:
  router: {policy: least_in_flight}
  pools:
    - {model: steady, replicas: 3, max_model_len: 4096, num_gpu_blocks: 2000, step_cost: {base: 20ms}, cold_start: 2s}
faults:
  - {at: 8s, kind: replica_crash, target: vllm-1, lasts: 2s}
  - {at: 34s, kind: partition, target: vllm-0, lasts: 6s}
measure: {warm_up: 3s}
expect: ["all.error_rate < 0.2"]
"""


@pytest.fixture(scope="module")
def flown(place, pytestconfig, tmp_path_factory):
    """The run directory of a flight on the suites' cluster."""
    directory = tmp_path_factory.mktemp("flight")
    (directory / "on_kind.yaml").write_text(SCENARIO)
    out = directory / "run"
    words = ["replay", str(directory / "on_kind.yaml"), "--on", "kind", "--reuse", "--no-open", "--out", str(out)]
    given, components = pytestconfig.getoption("--kubeconfig"), pytestconfig.getoption("--components")
    words += ["--kubeconfig", given] if given else ["--cluster", place.name]
    words += ["--components", components] if components else []
    code = run(words)
    assert (out / "run.json").is_file(), f"exit code {code}"
    return out


def test_every_request_is_accounted_for_and_nearly_all_are_answered(flown, figure) -> None:
    summary = json.loads((flown / "summary.json").read_text())
    record = json.loads((flown / "run.json").read_text())

    assert record["rung"] == "kind"
    assert summary["outcome"] == "pass", summary
    figure(f"a flight on kind: outcome {summary['outcome']}, valid {summary['validity']['is_valid']}")


def test_the_faults_were_done_to_the_cluster_and_the_lost_replica_came_back(flown) -> None:
    events = [(one["kind"], one["target"]) for one in json.loads((flown / "run.json").read_text())["events"]]

    assert events[0] == ("replica_crash", "vllm-1")
    assert ("replica_ready", "vllm-1") in events
    assert ("partition", "vllm-0") in events


def test_every_component_was_sampled_and_the_router_said_why(flown) -> None:
    import pyarrow.parquet as parquet

    samples = parquet.read_table(flown / "samples.parquet").to_pylist()
    components = {one["component"] for one in samples}
    decisions = parquet.read_table(flown / "decisions.parquet").to_pylist()

    assert {"replica/vllm-0", "replica/vllm-1", "replica/vllm-2", "router", "gateway", "pool/vllm"} <= components
    assert {one["endpoint"] for one in decisions} >= {"vllm-0", "vllm-1", "vllm-2"}
    assert len(decisions) >= 150


def test_nothing_of_it_is_left(flown, kubectl) -> None:
    told = json.loads(kubectl("get", "namespaces", "-l", "windtunnel.dev/flight=true", "-o", "json"))["items"]

    assert [one["metadata"]["name"] for one in told if one["status"]["phase"] == "Active"] == []
