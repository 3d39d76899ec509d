"""A flight made by formula: classes, tenants, a crash, refusals, samples, decisions; the same on every machine."""

from math import nan
from typing import Any

import pytest

from sim.experiment.record import REQUEST_COLUMNS, RunRecord
from sim.experiment.samples import Sample, Samples
from sim.experiment.schema import Scenario
from sim.experiment.store import scenario_of

YAML = """\
windtunnel: 1
name: made by formula
about: Six hundred requests & a crash, <none> of it by chance.
workload:
  arrivals: {process: constant, rate: 2/s}
  classes:
    - {name: chat, share: 2, slo: {ttft: 400ms, tpot: 30ms, attainment: 0.9}}
    - {name: batch, share: 1, slo: {e2e: 20s}}
  tenants: [{name: north}, {name: south}]
cluster:
  pools: [{model: m, step_cost: {base: 10ms}, replicas: 2}]
measure: {warm_up: 20s}
expect: ["chat.slo_attainment >= 0.9", "all.error_rate < 0.001", "chat.ttft_p95 < 1s"]
"""
COUNT = 600
CRASH = 150.0


def flight(slower: float = 1.0, **fields: Any) -> RunRecord:
    columns: dict[str, list[Any]] = {name: [] for name in REQUEST_COLUMNS}
    for index in range(COUNT):
        for name, value in _request(index, slower).items():
            columns[name].append(value)
    settings: dict[str, Any] = {
        "scenario_name": "made by formula",
        "scenario_yaml": YAML,
        "rung": "sim",
        "seed": 7,
        "workload_hash": "c0ffee" * 10,
        "warm_up_seconds": 20.0,
        "duration_seconds": COUNT / 2,
        "samples": Samples(_samples()),
        "gaps": [(0.02 * slower, 1.0, 50_000.0), (0.08 * slower, 1.0, 900.0)],
        "decisions": [(index / 2, index, 1, f"vllm-{index % 2}", "least in flight", ()) for index in range(COUNT)],
        "events": [{"at": CRASH, "kind": "replica_crash", "target": "vllm-1", "lasts": 30.0, "about": "crashed"}],
        "facts": {
            "rows_read": 640,
            "dropped": {"outside the window": 30, "no output": 10},
            "notes": ["rate scaled by 2: time compressed, the shape kept"],
            "cost_per_hour": 5.0,
            "replica_seconds": {"vllm": 600.0},
        },
    }
    return RunRecord(**(settings | fields), requests=columns)


def _request(index: int, slower: float) -> dict[str, Any]:
    at = index / 2
    ttft = slower * (0.1 + 0.001 * (index * 37 % 211) + (0.9 if CRASH <= at < CRASH + 10 else 0.0))
    tokens = 5 + index * 53 % 90
    last = at + ttft + slower * 0.02 * (tokens - 1)
    row: dict[str, Any] = {
        "index": index,
        "traffic_class": "batch" if index % 3 == 2 else "chat",
        "tenant": "south" if index % 4 == 3 else "north",
        "model": "m",
        "session": "",
        "priority": 0,
        "scheduled": at,
        "sent": at + 0.001,
        "first_token": at + ttft,
        "last_token": last,
        "ended": last,
        "input_tokens": 200,
        "output_tokens": tokens,
        "first_chunk_tokens": 1,
        "chunks": tokens,
        "cached_tokens": 64 if index > 10 else 0,
        "status": "ok",
        "reason": "",
        "http_status": 200,
        "attempts": 1,
        "sends": 1,
        "endpoint": f"vllm-{index % 2}",
    }
    if index % 60 == 59:
        nothing = {"first_token": nan, "last_token": nan, "output_tokens": 0, "first_chunk_tokens": 0, "chunks": 0}
        row |= nothing | {"status": "refused", "reason": "the queue is full", "http_status": 429, "ended": at + 0.002}
    if index == 301:
        row |= {"status": "failed", "reason": "connection lost", "ended": at + 0.4, "output_tokens": 3}
    return row


def _samples() -> list[Sample]:
    samples = []
    for second in range(COUNT // 2):
        is_down = CRASH <= second < CRASH + 30
        for replica in range(1 if is_down else 2):
            name = f"replica/vllm-{replica}"
            samples.append((float(second), name, "running", float(second * (replica + 3) % 7)))
            samples.append((float(second), name, "queue_depth", float(is_down * 3)))
            samples.append((float(second), name, "kv_usage", (second * 11 % 60) / 100))
        samples.append((float(second), "pool/vllm", "ready", 1.0 if is_down else 2.0))
        samples.append((float(second), "router", "queue", 0.0))
        samples.append((float(second), "gateway", "in_flight", float(second % 9)))
    return samples


@pytest.fixture
def record() -> RunRecord:
    return flight()


@pytest.fixture
def measured() -> RunRecord:
    """The same flight on another rung, a fifth slower."""
    return flight(1.2, rung="local", left_out=["no GPU on loopback"], diagnostics={"cpu_busy_share": 0.95})


@pytest.fixture
def scenario(record: RunRecord) -> Scenario:
    return scenario_of(record)
