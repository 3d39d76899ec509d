"""Records made by hand or by chance: a request is what its row says, and nothing else flies."""

from math import nan
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sim.experiment.record import REQUEST_COLUMNS, RunRecord
from sim.experiment.schema import Scenario

PLAIN = {
    "traffic_class": "chat",
    "tenant": "default",
    "model": "m",
    "session": "",
    "priority": 0,
    "input_tokens": 100,
    "output_tokens": 11,
    "first_chunk_tokens": 1,
    "chunks": 11,
    "cached_tokens": 0,
    "status": "ok",
    "reason": "",
    "http_status": 0,
    "attempts": 1,
    "sends": 1,
    "endpoint": "vllm-0",
}
CHAT = {"name": "chat", "slo": {"ttft": "500ms", "tpot": "50ms", "attainment": 0.9}}


def scenario(*expect: str, classes: tuple[Any, ...] = (CHAT,), **measure: Any) -> Scenario:
    return Scenario.model_validate(
        {
            "windtunnel": 1,
            "name": "made",
            "workload": {"arrivals": {"process": "poisson", "rate": "1/s"}, "classes": classes},
            "cluster": {"pools": [{"model": "m", "step_cost": {"base": "10ms"}, "replicas": 1}]},
            "measure": measure,
            "expect": expect,
        }
    )


def record(rows: list[dict[str, Any]], **fields: Any) -> RunRecord:
    columns: dict[str, list[Any]] = {name: [] for name in REQUEST_COLUMNS}
    for index, row in enumerate(rows):
        at = row.get("scheduled", float(index))
        times = {"sent": at, "first_token": at + 0.1, "last_token": at + 0.5, "ended": at + 0.5}
        whole = {"index": index, "scheduled": at} | PLAIN | times | row
        for name, column in columns.items():
            column.append(whole[name])
    settings: dict[str, Any] = {
        "scenario_name": "made",
        "scenario_yaml": "windtunnel: 1\n",
        "rung": "sim",
        "seed": 1,
        "workload_hash": "abc",
        "warm_up_seconds": 0.0,
        "duration_seconds": max(float(len(rows)), 1.0),
    }
    return RunRecord(**(settings | fields), requests=columns)


def lost(status: str, reason: str = "no capacity") -> dict[str, Any]:
    nothing = {"first_token": nan, "last_token": nan, "output_tokens": 0, "first_chunk_tokens": 0, "chunks": 0}
    return {"status": status, "reason": reason, "endpoint": ""} | nothing


def random_rows(count: int, seed: int, slower: float = 1.0) -> list[dict[str, Any]]:
    """Draw latencies; `slower` stretches them and draws nothing anew."""
    chance = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        ttft, tpot = slower * chance.lognormal(-2, 0.5), slower * chance.lognormal(-4, 0.2)
        tokens = int(chance.integers(2, 200))
        first = index + ttft
        last = first + tpot * (tokens - 1)
        times = {"scheduled": float(index), "first_token": first, "last_token": last, "ended": last}
        rows.append(times | {"output_tokens": tokens})
    return rows


@pytest.fixture(scope="session")
def made() -> SimpleNamespace:
    return SimpleNamespace(scenario=scenario, record=record, lost=lost, random_rows=random_rows)
