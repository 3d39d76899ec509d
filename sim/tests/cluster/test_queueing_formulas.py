"""More of queueing theory that is exact: Pollaczek–Khinchine, Erlang C over seats, and priorities without preemption.

The engine is an exact server: a service of `n` tokens takes n steps of 1 ms, a server is a seat in the batch.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from heapq import heappop, heappush
from math import exp, sqrt
from statistics import mean, stdev
from typing import Any

import pytest

from sim.experiment.workload import WorkloadRequest

STEP = 0.001
T_999_9_DEGREES = 4.78
"""Student's t, 99.9 % two-sided, 9 degrees of freedom."""

HOPS_AND_OVERHEADS = 6 * 0.0002 + 2 * 0.001 + STEP
"""What is no wait between sending and the first token: hops there and back, the servers' own time, the first step."""

Draw = Callable[[random.Random], float]


def hyperexponential(chance: random.Random) -> float:
    return chance.expovariate(4.0) if chance.random() < 0.2 else chance.expovariate(16.0)


SERVICES: dict[str, tuple[Draw, float, float]] = {
    # draw, mean, mean square; seconds
    "uniform": (lambda chance: chance.uniform(0.0, 0.2), 0.1, 0.04 / 3),
    "hyperexponential": (hyperexponential, 0.2 / 4 + 0.8 / 16, 2 * (0.2 / 16 + 0.8 / 256)),
    "lognormal": (lambda chance: chance.lognormvariate(-2.5, 0.6), exp(-2.5 + 0.18), exp(-5.0 + 0.72)),
}


def check(means: list[float], theory: float) -> None:
    error = T_999_9_DEGREES * stdev(means) / sqrt(len(means))
    assert abs(mean(means) - theory) < error + STEP, f"{mean(means):.4f} ± {error:.4f} s against {theory:.4f} s"
    assert error < 0.45 * theory, "too few requests to tell"


def mean_wait(flown: Any, loaded: Any, requests: Any, skip: int) -> float:
    rows = flown(loaded, requests).requests
    waits = [first - sent - HOPS_AND_OVERHEADS for first, sent in zip(rows["first_token"], rows["sent"], strict=True)]
    return mean(waits[skip:])


def server(scenario: Any, seats: int) -> Any:
    pool = {"replicas": 1, "step_cost": {"base": STEP}, "max_num_seqs": seats, "num_gpu_blocks": 1_000_000}
    return scenario(pool=pool, measure={"sample_interval": 5.0}, router={"queue": {"max_requests": 100_000}})


def arrivals(count: int, rate: float, draw: Draw, seed: int) -> list[tuple[float, int, int]]:
    chance = random.Random(seed)
    now, requests = 0.0, []
    for _ in range(count):
        now += chance.expovariate(rate)
        requests.append((now, 1, max(1, round(draw(chance) / STEP))))
    return requests


@pytest.mark.parametrize("service", SERVICES)
def test_mean_wait_of_m_g_1(scenario: Any, workload: Any, flown: Any, service: str) -> None:
    """Pollaczek and Khinchine: W = λ E[S²] / 2(1 − ρ), for ρ = 0.6."""
    draw, first, second = SERVICES[service]
    rate = 0.6 / first
    means = [
        mean_wait(flown, server(scenario, 1), workload(*arrivals(2500, rate, draw, seed)), 200) for seed in range(10)
    ]
    check(means, rate * second / (2 * 0.4))


@pytest.mark.parametrize(("seats", "load"), [(2, 1.4), (6, 4.5)])
def test_mean_wait_of_m_m_c(scenario: Any, workload: Any, flown: Any, seats: int, load: float) -> None:
    """Erlang C: W = C(c, a) / (cμ − λ), for a mean service of 0.1 s."""
    means = []
    for seed in range(10):
        requests = arrivals(3000, load / 0.1, lambda chance: chance.expovariate(10.0), 300 + seed)
        means.append(mean_wait(flown, server(scenario, seats), workload(*requests), 300))
    terms = [1.0]
    for count in range(1, seats + 1):
        terms.append(terms[-1] * load / count)
    waiting = terms[seats] * seats / (seats - load)
    check(means, waiting / (sum(terms[:seats]) + waiting) / (seats * 10.0 - load / 0.1))


def prioritised(seed: int, count: int, rates: tuple[float, float]) -> list[WorkloadRequest]:
    chance = random.Random(seed)
    now, made = 0.0, []
    for index in range(count):
        now += chance.expovariate(sum(rates))
        priority = int(chance.random() < rates[1] / sum(rates))
        tokens = max(1, round(chance.expovariate(10.0) / STEP))
        made.append(WorkloadRequest(index, now, 1, tokens, "m", priority=priority))
    return made


def begun_by_recursion(requests: list[WorkloadRequest]) -> list[float]:
    """One server, the most important first, first come first served among equals, nobody interrupted."""
    begun = [0.0] * len(requests)
    waiting: list[tuple[int, int]] = []
    free_at, upcoming = 0.0, 0
    while upcoming < len(requests) or waiting:
        if not waiting:
            free_at = max(free_at, requests[upcoming].scheduled)
        while upcoming < len(requests) and requests[upcoming].scheduled <= free_at:
            heappush(waiting, (-requests[upcoming].priority, upcoming))
            upcoming += 1
        _, index = heappop(waiting)
        begun[index] = free_at
        free_at += requests[index].output_tokens * STEP
    return begun


def one_at_a_time(scenario: Any) -> Any:
    """Priorities are the router's: one request in flight, all others in its queue; no time passes on the way."""
    pool = {"replicas": 1, "step_cost": {"base": STEP}, "max_num_seqs": 1, "num_gpu_blocks": 1_000_000}
    return scenario(
        pool=pool,
        measure={"sample_interval": 5.0},
        router={"overhead": 0, "queue": {"max_requests": 100_000, "max_in_flight_per_endpoint": 1}},
        gateway={"overhead": 0},
        network={"hop": 0},
    )


def test_every_request_of_a_priority_queue_begins_when_it_should(scenario: Any, workload: Any, flown: Any) -> None:
    requests = prioritised(7, 2500, (4.5, 3.0))
    record = flown(one_at_a_time(scenario), workload(*requests))
    begun = {index: at for at, index, *_ in record.decisions}

    for index, wanted in enumerate(begun_by_recursion(requests)):
        assert begun[index] == pytest.approx(wanted, abs=1e-6), index


def test_mean_waits_of_a_priority_queue(scenario: Any, workload: Any, flown: Any) -> None:
    """Cobham: W = W₀ / (1 − σ of the more important)(1 − σ of these and those), W₀ = λ E[S²] / 2."""
    rates = (3.5, 3.5)
    means: dict[int, list[float]] = {0: [], 1: []}
    for seed in range(10):
        requests = prioritised(seed, 3500, rates)
        record = flown(one_at_a_time(scenario), workload(*requests))
        begun = {index: at for at, index, *_ in record.decisions}
        for priority, found in means.items():
            waits = [begun[r.index] - r.scheduled for r in requests[300:] if r.priority == priority]
            found.append(mean(waits))

    residual = sum(rates) * 2 * 0.1**2 / 2
    important, all_of_them = rates[1] * 0.1, sum(rates) * 0.1
    check(means[1], residual / (1 - important))
    check(means[0], residual / ((1 - important) * (1 - all_of_them)))
