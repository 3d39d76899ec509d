"""The timeline for the Perfetto UI: everything that happened is in it once, nested as it happened.

The rules of the format are held against Chromium's "Trace Event Format": what begins ends, slices of a track nest,
arrows hold on to slices, counters go forward.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter, defaultdict
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import Any

import pytest

from sim.cluster import fly
from sim.experiment.errors import InputError
from sim.experiment.generate import build_workload
from sim.experiment.record import RunRecord
from sim.experiment.report.perfetto_file import stretch_of, write_trace
from sim.experiment.scenario import parse
from sim.experiment.units import seconds

SCENARIO = """
windtunnel: 1
name: traced
workload:
  arrivals: {process: poisson, rate: 6/s}
  duration: 30s
  lengths: {input: {kind: uniform, min: 20, max: 900}, output: {kind: uniform, min: 1, max: 60}}
  classes: [{name: chat, deadline: 2s, retry: {max_sends: 3, backoff: 200ms}}]
cluster:
  router: {policy: least_in_flight, queue: {max_requests: 2, max_in_flight_per_endpoint: 4}}
  pools: [{model: m, replicas: 2, step_cost: {base: 20ms, per_prefill_token: 20us}, cold_start: 2s}]
faults:
  - {at: 8s, kind: replica_crash, target: vllm-1, lasts: 4s}
  - {at: 18s, kind: error_burst, target: vllm, lasts: 3s, share: 0.4}
  - {at: 19s, kind: slow_replica, target: vllm-0, lasts: 4s, factor: 2.5}
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
    of_pools = [gauge for gauge in gauges if names[gauge["pid"]].startswith("pool/") and gauge["name"] != "ready"]
    assert len(gauges) - len(of_pools) == sum(not isnan(value) for _, _, _, value in record.samples)
    assert {event["pid"] for event in events} == set(names)


def test_the_gauges_of_a_pool_are_the_sums_of_its_replicas(record: RunRecord, events: list[dict[str, Any]]) -> None:
    (pool,) = {event["pid"] for event in events if event.get("args", {}).get("name") == "pool/vllm"}
    for measure in ("running", "queue_depth"):
        sums: dict[float, float] = defaultdict(float)
        for at, component, name, value in record.samples:
            if component.startswith("replica/") and name == measure:
                sums[at * 1e6] += value
        seen = [event for event in events if (event["ph"], event["pid"], event["name"]) == ("C", pool, measure)]
        assert {event["ts"]: event["args"]["value"] for event in seen} == pytest.approx(dict(sums))


def test_a_fault_is_a_slice_of_every_replica_that_it_hit(events: list[dict[str, Any]]) -> None:
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    begun = [(names[e["pid"]], e["name"], e["ts"]) for e in events if e.get("cat") == "fault" and e["ph"] == "b"]
    ended = [(names[e["pid"]], e["name"], e["ts"]) for e in events if e.get("cat") == "fault" and e["ph"] == "e"]
    assert begun == [
        ("vllm-1", "replica_crash", 8e6),
        ("vllm-0", "error_burst", 18e6),
        ("vllm-1", "error_burst", 18e6),
        ("vllm-0", "slow_replica", 19e6),
    ]
    assert [at for *_, at in ended] == [12e6, 21e6, 21e6, 23e6]


def test_every_event_is_one_of_the_format(events: list[dict[str, Any]]) -> None:
    """Known phases with what each must have, no negative time, and a process is named before anything is in it."""
    needs = {
        "M": {"pid", "args"},
        "X": {"pid", "tid", "ts", "dur"},
        "C": {"pid", "ts", "args"},
        "b": {"pid", "ts", "cat", "id"},
        "e": {"pid", "ts", "cat", "id"},
        "i": {"pid", "tid", "ts", "s"},
        **{phase: {"pid", "tid", "ts", "cat", "id", "bp"} for phase in "stf"},
    }
    named: set[int] = set()
    for event in events:
        assert needs[event["ph"]] | {"name"} <= set(event), event
        assert event["name"]
        assert isinstance(event["pid"], int)
        assert event.get("ts", 0) >= 0
        assert event.get("dur", 0) >= 0
        if event["name"] == "process_name":
            named.add(event["pid"])
        assert event["pid"] in named, event


def test_slices_of_a_track_nest_or_follow_each_other(events: list[dict[str, Any]]) -> None:
    tracks: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            tracks[event["pid"], event["tid"]].append((event["ts"], -event["ts"] - event["dur"]))
    assert len(tracks) >= 2 + 1 + 3, "steps of two replicas, decisions, three faults"
    for slices in tracks.values():
        open_ends: list[float] = []
        for begin, minus_end in sorted(slices):
            while open_ends and open_ends[-1] <= begin + 2e-3:  # times are written to a nanosecond
                open_ends.pop()
            assert not open_ends or -minus_end <= open_ends[-1] + 2e-3
            open_ends.append(-minus_end)


def test_counters_go_forward_in_time(events: list[dict[str, Any]]) -> None:
    last: dict[tuple[int, str], float] = {}
    for event in events:
        if event["ph"] == "C":
            track = (event["pid"], event["name"])
            assert last.get(track, -1.0) < event["ts"], track
            last[track] = event["ts"]
    assert len(last) > 10


def test_arrows_lead_from_try_to_try_and_hold_on_to_decisions(record: RunRecord, events: list[dict[str, Any]]) -> None:
    decisions = {
        (event["ts"], event["args"]["request"]) for event in events if event.get("cat") == "decision" and event["dur"]
    }
    arrows: dict[int, list[tuple[float, str]]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "retry":
            assert (event["ts"], event["id"]) in decisions
            arrows[event["id"]].append((event["ts"], event["ph"]))
    tried = Counter(index for _, index, *_ in record.decisions)
    assert {index: len(steps) for index, steps in arrows.items()} == {
        index: count for index, count in tried.items() if count > 1
    }
    assert arrows
    for steps in arrows.values():
        assert steps == sorted(steps, key=lambda step: step[0])
        assert "".join(phase for _, phase in steps) == "s" + "t" * (len(steps) - 2) + "f"


def test_a_request_tells_what_befell_it(record: RunRecord, events: list[dict[str, Any]]) -> None:
    told = {event["id"]: event["args"] for event in events if event.get("cat") == "request" and "args" in event}
    rows = record.requests
    assert max(rows["sends"]) > 1
    for index in rows["index"]:
        assert (told[index]["sends"], told[index]["attempts"]) == (rows["sends"][index], rows["attempts"][index])
        assert told[index]["endpoint"] == rows["endpoint"][index]
        ttft = rows["first_token"][index] - rows["scheduled"][index]
        assert ("ttft_ms" in told[index]) == (not isnan(ttft))
        if not isnan(ttft):
            assert told[index]["ttft_ms"] == pytest.approx(ttft * 1e3, abs=1e-3)


def test_a_stretch_holds_what_was_under_way_in_it_and_nothing_else(record: RunRecord, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    assert write_trace(record, path, stretch_of("10s, 12.5s")) is None
    drawn = json.loads(path.read_text())["traceEvents"]
    requests = {event["id"] for event in drawn if event.get("cat") == "request"}
    rows = record.requests
    assert requests == {
        index
        for index, sent, ended in zip(rows["index"], rows["sent"], rows["ended"], strict=True)
        if sent <= 12.5 and ended >= 10.0
    }
    assert all(10e6 <= event["ts"] <= 12.5e6 for event in drawn if event["ph"] == "C")
    steps = [event for event in drawn if event.get("cat") == "step"]
    assert steps
    assert all(event["ts"] <= 12.5e6 and event["ts"] + event["dur"] >= 10e6 - 1e-3 for event in steps)


def test_a_long_flight_is_cut_where_a_browser_could_not_follow(record: RunRecord, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    note = write_trace(record, path, most_events=800)
    assert note is not None
    drawn = json.loads(path.read_text())["traceEvents"]
    assert 700 < len(drawn) < 1200
    last = max(event["ts"] for event in drawn if event["ph"] == "C") / 1e6
    told = re.fullmatch(r".*: holds 0s to (\S+), as much as a browser opens; --trace-window \1,LATER shows .*", note)
    assert told
    assert seconds(told[1]) == pytest.approx(last, abs=1.1)
    assert write_trace(record, path, stretch_of(f"{told[1]},1h")) is None


@pytest.mark.parametrize("window", ["10m", "10,20", "12m,10m", "a,b", ""])
def test_a_window_that_is_none_is_refused(window: str) -> None:
    with pytest.raises(InputError, match=r"--trace-window .*expected"):
        stretch_of(window)


def test_a_flight_that_was_not_asked_for_its_steps_has_none() -> None:
    loaded = parse(SCENARIO)
    assert fly(loaded, build_workload(loaded)).steps == []


def test_a_trace_that_cannot_be_written_is_told(record: RunRecord, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--trace .*nowhere.*cannot be written"):
        write_trace(record, tmp_path / "nowhere" / "t.json")
    (tmp_path / "t.json").mkdir()
    with pytest.raises(InputError, match=r"--trace .*cannot be written"):
        write_trace(record, tmp_path / "t.json")
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]
