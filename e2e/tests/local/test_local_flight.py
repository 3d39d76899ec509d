"""The local rung: the same scenario through real processes gives the same kind of record as the simulator's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from math import isnan
from pathlib import Path

import pytest

from e2e.rungs.local import fly, left_out
from e2e.rungs.processes import Crew
from e2e.rungs.stack import add_stack
from sim.cluster import fly as fly_simulated
from sim.experiment.generate import build_workload
from sim.experiment.record import REQUEST_COLUMNS
from sim.experiment.scenario import parse

SCENARIO = """
windtunnel: 1
name: short
seed: 3
workload:
  arrivals: {process: poisson, rate: 8/s}
  duration: 6s
  lengths: {input: 120, output: 20}
  tenants: [{name: red}, {name: blue}]
cluster:
  router: {policy: prefix_aware, health_interval: 500ms}
  pools:
    - {model: tiny, step_cost: {base: 8ms, per_sequence: 100us}, replicas: 2, cold_start: 1s}
faults:
  - {at: 2s, kind: replica_crash, target: vllm-0, lasts: 1s}
"""


@pytest.fixture(scope="module")
def flown(tmp_path_factory: pytest.TempPathFactory):
    loaded = parse(SCENARIO)
    workload = build_workload(loaded)
    directory = tmp_path_factory.mktemp("flight")
    return fly(loaded, workload, directory), fly_simulated(loaded, workload), directory


def test_every_request_has_a_row_and_every_loss_its_reason(flown) -> None:
    record, _, _ = flown
    columns = record.requests

    assert columns.keys() == REQUEST_COLUMNS.keys()
    assert {len(column) for column in columns.values()} == {len(columns["index"])}
    assert set(columns["status"]) <= {"ok", "failed"}
    for status, reason, tokens, first in zip(
        columns["status"], columns["reason"], columns["output_tokens"], columns["first_token"], strict=True
    ):
        assert (status == "ok") == (reason == "")
        if status == "ok":
            assert tokens == 20
            assert not isnan(first)


def test_a_crash_loses_what_was_in_flight_there_and_nothing_else(flown) -> None:
    record, _, _ = flown
    columns = record.requests
    crashed_at = next(event["at"] for event in record.events if event["kind"] == "replica_crash")
    for place, status in enumerate(columns["status"]):
        if status != "ok":
            assert columns["sent"][place] <= crashed_at + 0.1
            assert columns["ended"][place] >= crashed_at - 0.1
    after = [place for place, sent in enumerate(columns["sent"]) if crashed_at + 0.1 < sent < crashed_at + 1.0]
    assert {columns["endpoint"][place] for place in after} == {"vllm-1"}


def test_the_record_speaks_the_simulators_words(flown) -> None:
    record, predicted, _ = flown

    assert record.workload_hash == predicted.workload_hash
    assert {sample[1:3] for sample in record.samples} == {sample[1:3] for sample in predicted.samples}
    assert {event["kind"] for event in record.events} <= {event["kind"] for event in predicted.events}
    assert {decision[3] for decision in record.decisions} == {decision[3] for decision in predicted.decisions}
    assert {decision[1] for decision in record.decisions} == set(record.requests["index"])
    assert 0 <= record.diagnostics["cpu_busy_share"] <= 1


def test_prompts_stay_out_of_every_log(flown) -> None:
    _, _, directory = flown
    logs = [path.read_text() for path in directory.glob("*.jsonl")]

    assert any('"status":200' in log for log in logs)
    assert not any("messages" in log or "content" in log for log in logs)


def test_what_loopback_cannot_do_is_said() -> None:
    scenario = parse(
        SCENARIO.replace(
            "step_cost: {base: 8ms, per_sequence: 100us}", "gpu: l40s, autoscale: {max_replicas: 4, target: 8}"
        )
        .replace("model: tiny", "model: meta-llama/Llama-3.1-8B-Instruct")
        .replace("cluster:", "cluster:\n  gateway: {replicas: 2}")
    ).scenario

    sentences = left_out(scenario)

    assert len(sentences) == 2
    assert all(sentence.endswith(".") for sentence in sentences)


def test_what_is_disaggregated_is_not_on_loopback_and_its_replicas_are_all_there(tmp_path: Path) -> None:
    more = "replicas: 1, disaggregated: {prefill_replicas: 1, kv_bytes_per_token: 1000}"
    loaded = parse(SCENARIO.replace("replicas: 2", more).replace("target: vllm-0", "target: vllm-prefill-0"))
    with Crew(tmp_path) as crew:
        stack = add_stack(crew, loaded)

    assert set(stack.workers) == {"vllm-0", "vllm-prefill-0"}
    assert stack.nodes == {"node-0": ("vllm-0",), "node-1": ("vllm-prefill-0",)}
    (sentence,) = left_out(loaded.scenario)
    assert sentence.startswith(
        "Disaggregation of vllm: each of its 2 replicas, those for prefill too, computes prompts"
    )


def test_serve_says_where_to_click_and_stops_cleanly(tmp_path: Path) -> None:
    scenario = tmp_path / "short.yaml"
    scenario.write_text(SCENARIO)
    command = [sys.executable, "-m", "e2e.cli", "serve", str(scenario)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as serving:
        try:
            told = _told_until(serving, "Ctrl-C")
            gateway = next(line for line in told if line.startswith("gateway  http://127.0.0.1:"))
            assert _listens(_port_of(gateway))
            serving.send_signal(signal.SIGINT)
            assert serving.wait(20) == 0
        finally:
            serving.kill()
    assert not _listens(_port_of(gateway))


def _told_until(process: subprocess.Popen[str], word: str) -> list[str]:
    """Read lines until one has the word; pytest's timeout ends what never says it."""
    assert process.stdout is not None
    told: list[str] = []
    for line in process.stdout:
        told.append(line)
        if word in line:
            return told
    raise AssertionError(f"it ended with {process.wait()} before it said {word!r}: {told}")


def _port_of(line: str) -> int:
    return int(line.split(":")[2].split("/")[0])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_port_in_use_is_one_message_and_exit_2(tmp_path: Path) -> None:
    scenario = tmp_path / "short.yaml"
    scenario.write_text(SCENARIO)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "e2e.cli", "serve", str(scenario), "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ, check=False)

    assert done.returncode == 2
    assert done.stderr == f"error: --port {port}: somebody listens there; choose another, or none for a free one\n"
