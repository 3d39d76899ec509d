"""Fairness between tenants as a scenario asks for it: what the others feel of a greedy one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sim.experiment.errors import InputError
from sim.experiment.record import RunRecord
from sim.experiment.scenario import parse
from sim.experiment.workload import WorkloadRequest

Fly = Callable[..., RunRecord]


def longest_wait(flown: Fly, scenario: Any, workload: Any, tenant: str, **queue: Any) -> float:
    """Fly one polite request a second beside a hundred at once of a greedy tenant; a replica takes one at a time."""
    greedy = [WorkloadRequest(number, 0.0, 500, 20, "m", tenant="greedy") for number in range(100)]
    polite = [WorkloadRequest(100 + number, number + 0.5, 100, 20, "m", tenant="polite") for number in range(15)]
    loaded = scenario(pool={"replicas": 1}, router={"queue": {"max_in_flight_per_endpoint": 1, **queue}})
    rows = flown(loaded, workload(*greedy, *polite)).requests
    waits = zip(rows["tenant"], rows["first_token"], rows["scheduled"], strict=True)
    return max(first - scheduled for name, first, scheduled in waits if name == tenant)


def test_a_greedy_tenant_delays_another_by_one_of_its_requests(scenario: Any, workload: Any, flown: Fly) -> None:
    one_request = 20 * 0.01
    unfair = longest_wait(flown, scenario, workload, "polite", fairness="none")
    fair = longest_wait(flown, scenario, workload, "polite", fairness="tokens")

    assert unfair > 15.0, "a hundred requests stand before it"
    assert fair < 2 * one_request


def test_weights_say_who_gets_how_much(scenario: Any, workload: Any, flown: Fly) -> None:
    requests = [
        WorkloadRequest(number, 0.0, 100, 10, "m", tenant="red" if number % 2 else "blue") for number in range(80)
    ]
    loaded = scenario(
        pool={"replicas": 1},
        router={"queue": {"max_in_flight_per_endpoint": 1, "fairness": "tokens", "weights": {"red": 3.0}}},
    )
    record = flown(loaded, workload(*requests))
    order = [record.requests["tenant"][index] for _, index, *_ in sorted(record.decisions)][:40]

    assert order.count("red") == pytest.approx(30, abs=1)


def test_a_weight_of_nothing_is_refused() -> None:
    text = """
windtunnel: 1
name: weights
workload: {arrivals: {process: constant, rate: 1/s}, duration: 1m, lengths: {input: 1, output: 1}}
cluster:
  router: {queue: {fairness: tokens, weights: {red: 0.0}}}
  pools: [{model: m, replicas: 1, step_cost: {base: 5ms}, num_gpu_blocks: 100}]
"""
    with pytest.raises(InputError, match="greater than 0"):
        parse(text)
