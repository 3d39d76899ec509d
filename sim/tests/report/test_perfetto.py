"""The timeline for the Perfetto UI: everything that happened is in it once, nested as it happened."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import Any

import pytest

from sim.cluster import fly
from sim.experiment.errors import InputError
from sim.experiment.generate import build_workload
from sim.experiment.record import RunRecord
from sim.experiment.report.perfetto import write_trace
from sim.experiment.scenario import parse

SCENARIO = """
windtunnel: 1
name: traced
workload:
  arrivals: {process: poisson, rate: 6/s}
  duration: 30s
  lengths: {input: {kind: uniform, min: 20, max: 900}, output: {kind: uniform, min: 1, max: 60}}
cluster:
  router: {policy: least_in_flight, queue: {max_requests: 2, max_in_flight_per_endpoint: 4}}
  pools: [{model: m, replicas: 2, step_cost: {base: 20ms, per_prefill_token: 20us}, cold_start: 2s}]
faults: [{at: 8s, kind: replica_crash, target: vllm-1, lasts: 4s}]
"""


@pytest.fixture(scope="module")
def record() -> RunRecord:
    loaded = parse(SCENARIO)
    return fly(loaded, build_workload(loaded), with_steps=True)


@pytest.fixture(scope="module")
def events(record: RunRecord, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    path = tmp_path_factory.mktemp("trace") / "t.json.gz"
    write_trace(record, path)
    found: list[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return found


def test_every_request_is_there_with_its_phases_closed_in_order(
    record: RunRecord, events: list[dict[str, Any]]
) -> None:
    open_spans: dict[int, list[str]] = defaultdict(list)
    seen: dict[int, list[tuple[str, str, float]]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "request":
            seen[event["id"]].append((event["ph"], event["name"], event["ts"]))
            if event["ph"] == "b":
                open_spans[event["id"]].append(event["name"])
            else:
                assert open_spans[event["id"]].pop() == event["name"]

    assert not any(open_spans.values())
    assert set(seen) == set(record.requests["index"])
    for index, spans in seen.items():
        times = [at for _, _, at in spans]
        assert times == sorted(times)
        assert times[0] == pytest.approx(record.requests["sent"][index] * 1e6, abs=1e-3)
        assert ("b", "answer") in [(phase, name) for phase, name, _ in spans] or isnan(
            record.requests["first_token"][index]
        )


def test_steps_of_a_replica_follow_each_other_and_hold_every_token(
    record: RunRecord, events: list[dict[str, Any]]
) -> None:
    by_replica: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "step":
            by_replica[event["pid"]].append(event)

    assert len(by_replica) == 2
    for steps in by_replica.values():
        for before, after in pairwise(steps):
            assert before["ts"] + before["dur"] <= after["ts"] + 2e-3
    counters = record.facts["engine"]["vllm"]
    all_steps = [step["args"] for steps in by_replica.values() for step in steps]
    assert sum(step["steps"] for step in all_steps) == counters["steps"]
    assert sum(step["prefill_tokens"] for step in all_steps) == counters["prefilled_tokens"]


def test_faults_gauges_and_names_are_there(record: RunRecord, events: list[dict[str, Any]]) -> None:
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    faults = [event for event in events if event.get("cat") == "event" and event["ph"] == "X"]
    gauges = [event for event in events if event["ph"] == "C"]

    assert {"vllm-0", "vllm-1", "router", "faults and scaling"} <= set(names.values())
    assert [(fault["name"], fault["ts"], fault["dur"]) for fault in faults if "crash" in fault["name"]] == [
        ("replica_crash vllm-1", 8e6, 4e6)
    ]
    assert len(gauges) == sum(not isnan(value) for _, _, _, value in record.samples)
    assert {event["pid"] for event in events} == set(names)


def test_a_flight_that_was_not_asked_for_its_steps_has_none() -> None:
    loaded = parse(SCENARIO)
    assert fly(loaded, build_workload(loaded)).steps == []


def test_a_trace_that_cannot_be_written_is_told(record: RunRecord, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--trace .*nowhere.*cannot be written"):
        write_trace(record, tmp_path / "nowhere" / "t.json")
