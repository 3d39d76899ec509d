"""The cluster against queueing theory, with the engine set up as an exact server: one token a step, constant steps.

A service of `n` tokens takes n steps of 1 ms; a server is a seat in the batch. A request may join at a step's boundary
only, which costs a newcomer at most one step against the continuous theory.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from heapq import heappop, heappush
from statistics import mean
from typing import Any

import pytest

from sim.experiment.record import RunRecord
from sim.experiment.scenario import LoadedScenario

STEP = 0.001
HOPS_BEFORE = 3 * 0.0002 + 2 * 0.001
"""From the client to the replica: three hops, and the gateway's and the router's own time."""
HOPS_BACK = 3 * 0.0002
Fly = Callable[..., RunRecord]


def server(scenario: Callable[..., LoadedScenario], seats: int, **blocks: Any) -> LoadedScenario:
    pool = {
        "replicas": 1,
        "step_cost": {"base": STEP},
        "max_num_seqs": seats,
        "num_gpu_blocks": 1_000_000,
    }
    return scenario(pool=pool, measure={"sample_interval": 0.5}, router={"queue": {"max_requests": 100_000}}, **blocks)


def poisson(
    count: int, rate: float, service: Callable[[random.Random], float], seed: int
) -> list[tuple[float, int, int]]:
    chance = random.Random(seed)
    now, requests = 0.0, []
    for _ in range(count):
        now += chance.expovariate(rate)
        requests.append((now, 1, max(1, round(service(chance) / STEP))))
    return requests


def waits(record: RunRecord) -> list[float]:
    """Seconds between reaching the replica and beginning service: the first token comes a step after that."""
    rows = record.requests
    return [
        first - HOPS_BACK - STEP - (sent + HOPS_BEFORE)
        for first, sent in zip(rows["first_token"], rows["sent"], strict=True)
    ]


def waits_by_recursion(requests: list[tuple[float, int, int]], seats: int) -> list[float]:
    """Kiefer and Wolfowitz: a newcomer takes the seat that is free first. Exact for any arrivals and services."""
    free_at = [0.0] * seats
    found = []
    for at, _, tokens in requests:
        begin = max(at, heappop(free_at))
        heappush(free_at, begin + tokens * STEP)
        found.append(begin - at)
    return found


@pytest.mark.parametrize("seats", [1, 2, 3, 8])
@pytest.mark.parametrize("service", ["constant", "exponential"])
def test_every_wait_is_that_of_a_first_come_first_served_queue(
    scenario: Any, workload: Any, flown: Fly, seats: int, service: str
) -> None:
    """G/D/c and G/G/c path by path: each request's wait, within the steps that its predecessors were late by."""
    draw = (lambda chance: 0.1) if service == "constant" else (lambda chance: chance.expovariate(10.0))
    requests = poisson(3000, 8.0 * seats, draw, seed=5)
    found = waits(flown(server(scenario, seats), workload(*requests)))
    expected = waits_by_recursion(requests, seats)
    busy_steps = 0
    for got, wanted in zip(found, expected, strict=True):
        # a busy period is late by less than one step for each seat that was taken up in it
        assert wanted - 1e-6 <= got, (got, wanted)
        busy_steps = max(busy_steps, round((got - wanted) / STEP))
    assert mean(found) == pytest.approx(mean(expected), rel=0.02, abs=STEP)
    assert busy_steps <= 3


def mean_of(record: RunRecord, component: str, measure: str, until: float) -> float:
    return mean(
        value for at, part, name, value in record.samples if part == component and name == measure and at <= until
    )


def test_littles_law_holds_on_every_queue(scenario: Any, workload: Any, flown: Fly) -> None:
    """I8: at the gateway, in the router's queue, in flight, waiting and running in the engine, L = λ W."""
    requests = poisson(6000, 16.0, lambda chance: chance.expovariate(10.0), seed=11)
    loaded = scenario(
        pool={"replicas": 1, "step_cost": {"base": STEP}, "max_num_seqs": 2, "num_gpu_blocks": 1_000_000},
        measure={"sample_interval": 0.05},
        router={"queue": {"max_requests": 100_000, "max_in_flight_per_endpoint": 4}},
    )
    record = flown(loaded, workload(*requests))
    rows = record.requests
    end = max(rows["ended"])
    dispatched = {index: at for at, index, *_ in record.decisions}
    arrived = [sent + 2 * 0.0002 + 2 * 0.001 for sent in rows["sent"]]
    submitted = [dispatched[index] + 0.0002 for index in range(len(requests))]
    begun = [first - HOPS_BACK - STEP for first in rows["first_token"]]
    finished = [last - HOPS_BACK for last in rows["last_token"]]
    stays = {
        ("gateway", "in_flight"): (rows["sent"], rows["ended"]),
        ("router", "queue"): (arrived, dispatched.values()),
        ("router", "in_flight"): (dispatched.values(), finished),
        ("replica/vllm-0", "queue_depth"): (submitted, begun),
        ("replica/vllm-0", "running"): (begun, finished),
    }
    for (component, measure), (came, went) in stays.items():
        wanted = (sum(went) - sum(came)) / end
        assert mean_of(record, component, measure, end) == pytest.approx(wanted, rel=0.03, abs=0.02), component
