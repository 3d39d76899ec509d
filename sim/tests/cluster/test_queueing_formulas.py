"""Mean waits that queueing theory knows exactly: M/M/c, M/D/c, M/G/1 and priorities, each to within a few per cent.

The engine is an exact server: a service of `n` tokens takes n steps of 1 ms, a server is a seat in the batch. A mean
wait in a busy queue converges slowly, so it is told by a control variate (Law and Kelton, "Simulation Modeling and
Analysis", on variance reduction): flown waits are held against a recursion on the very same arrivals, which leaves a
difference of next to no variance, and the recursion's own mean comes from a path of half a million arrivals and more.
Their sum is held against the formula, within bounds that would be exceeded once in a thousand times and must be tight
themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import exp, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sim.experiment.workload import WorkloadRequest

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]

STEP = 0.001
T_999_19_DEGREES = 3.88
"""Student's t, 99.9 % two-sided, 19 degrees of freedom: of 20 batches."""

BATCHES = 20
TIGHTEST_LOOSE = 0.06
"""The bounds may be no wider than this share of what they are around."""

HOPS_AND_OVERHEADS = 6 * 0.0002 + 2 * 0.001 + STEP
"""What is no wait between sending and the first token: hops there and back, the servers' own time, the first step."""


def exponential(chance: np.random.Generator, count: int) -> Floats:
    return chance.exponential(0.1, count)


def constant(chance: np.random.Generator, count: int) -> Floats:
    return np.full(count, 0.1)


def hyperexponential(chance: np.random.Generator, count: int) -> Floats:
    return chance.exponential(np.where(chance.random(count) < 0.2, 1 / 4, 1 / 16))


SERVICES: dict[str, tuple[Draw, float, float]] = {
    # draw, mean, mean square; seconds
    "constant": (constant, 0.1, 0.01),
    "exponential": (exponential, 0.1, 0.02),
    "uniform": (lambda chance, count: chance.uniform(0.0, 0.2, count), 0.1, 0.04 / 3),
    "two kinds": (lambda chance, count: np.where(chance.random(count) < 0.25, 0.28, 0.04), 0.1, 0.0208),
    "hyperexponential": (hyperexponential, 0.2 / 4 + 0.8 / 16, 2 * (0.2 / 16 + 0.8 / 256)),
    "lognormal": (lambda chance, count: chance.lognormal(-2.5, 0.6, count), exp(-2.5 + 0.18), exp(-5.0 + 0.72)),
}


def arrivals(chance: np.random.Generator, count: int, rate: float) -> Floats:
    return np.cumsum(chance.exponential(1 / rate, count))


def in_steps(seconds: Floats) -> npt.NDArray[np.int64]:
    return np.maximum(1, np.rint(seconds / STEP)).astype(np.int64)


def waits_by_recursion(at: Floats, services: Floats, seats: int) -> Floats:
    """Lindley's recursion for one seat, Kiefer and Wolfowitz's for several: a newcomer takes the seat free first."""
    if seats == 1:
        walk = np.concatenate([[0.0], np.cumsum(services[:-1] - np.diff(at))])
        waits: Floats = walk - np.minimum.accumulate(walk)
        return waits
    free_at = [0.0] * seats
    found = []
    for came, service in zip(at.tolist(), services.tolist(), strict=True):
        begin = max(came, heappop(free_at))
        heappush(free_at, begin + service)
        found.append(begin - came)
    return np.asarray(found)


def check(differences: list[float], long_path: Floats, theory: float) -> None:
    """Hold the mean wait of the cluster against theory; `long_path` are waits by recursion, in order of arrival."""
    batches = np.asarray([batch.mean() for batch in np.array_split(long_path, BATCHES)])
    error = T_999_19_DEGREES * float(batches.std(ddof=1)) / sqrt(BATCHES)
    late = float(np.mean(differences))
    assert abs(late) < STEP + 0.01 * theory, f"{late:.5f} s beside the recursion"
    estimate = float(batches.mean()) + late
    assert abs(estimate - theory) < error + STEP, f"{estimate:.5f} ± {error:.5f} s against {theory:.5f} s"
    assert error < TIGHTEST_LOOSE * theory, f"± {error / theory:.1%} tells too little"


@pytest.fixture
def late_by(scenario: Any, workload: Any, flown: Any) -> Callable[[Draw, float, int], list[float]]:
    """Fly two paths; give by how much their mean wait is above the recursion's."""

    def fly(draw: Draw, rate: float, seats: int) -> list[float]:
        pool = {"replicas": 1, "step_cost": {"base": STEP}, "max_num_seqs": seats, "num_gpu_blocks": 1_000_000}
        queue = {"queue": {"max_requests": 100_000}}
        loaded = scenario(pool=pool, measure={"sample_interval": 60.0}, router=queue)
        found = []
        for seed in (1, 2):
            chance = np.random.default_rng(seed)
            at, tokens = arrivals(chance, 1500, rate), in_steps(draw(chance, 1500))
            requests = [(came, 1, length) for came, length in zip(at.tolist(), tokens.tolist(), strict=True)]
            rows = flown(loaded, workload(*requests)).requests
            waits = np.asarray(rows["first_token"]) - np.asarray(rows["sent"]) - HOPS_AND_OVERHEADS
            found.append(float((waits - waits_by_recursion(at, tokens * STEP, seats)).mean()))
        return found

    return fly


def long_path(draw: Draw, rate: float, seats: int) -> Floats:
    chance = np.random.default_rng(7)
    count = 2_000_000 if seats == 1 else 125_000 * max(4, seats)
    return waits_by_recursion(arrivals(chance, count, rate), in_steps(draw(chance, count)) * STEP, seats)


@pytest.mark.parametrize("service", SERVICES)
def test_mean_wait_of_m_g_1(late_by: Any, service: str) -> None:
    """Pollaczek and Khinchine: W = λ E[S²] / 2(1 − ρ), for ρ = 0.6."""
    draw, first, second = SERVICES[service]
    rate = 0.6 / first
    check(late_by(draw, rate, 1), long_path(draw, rate, 1), rate * second / (2 * 0.4))


@pytest.mark.parametrize(("seats", "load"), [(1, 0.6), (2, 1.4), (3, 2.1), (8, 6.0)])
def test_mean_wait_of_m_m_c(late_by: Any, seats: int, load: float) -> None:
    """Erlang C: W = C(c, a) / (cμ − λ), for a mean service of 0.1 s."""
    terms = [1.0]
    for count in range(1, seats + 1):
        terms.append(terms[-1] * load / count)
    waiting = terms[seats] * seats / (seats - load)
    theory = waiting / (sum(terms[:seats]) + waiting) / (seats * 10.0 - load / 0.1)
    check(
        late_by(exponential, load / 0.1, seats),
        long_path(exponential, load / 0.1, seats),
        theory,
    )


def crommelin(seats: int, load: float) -> float:
    """Return the mean wait of M/D/c in services, from the number in the system at times a service apart.

    Whoever is in service at a time has left a service later and nobody else has, so that j are there then with the
    probability that j − max(0, i − c) came meanwhile, where i were there (Crommelin 1932). Little's law does the rest.
    """
    size = 400
    came = np.exp(-load + np.arange(size) * np.log(load) - np.cumsum(np.log(np.maximum(1, np.arange(size)))))
    change = np.zeros((size, size))
    for there in range(size):
        left = max(0, there - seats)
        change[there, left:] = came[: size - left]
    change /= change.sum(axis=1, keepdims=True)
    equations = np.vstack([change.T - np.eye(size), np.ones(size)])
    stationary = np.linalg.lstsq(equations, np.concatenate([np.zeros(size), [1.0]]), rcond=None)[0]
    return float((np.maximum(0, np.arange(size) - seats) * stationary).sum() / load)


@pytest.mark.parametrize(("seats", "load"), [(1, 0.7), (2, 1.6), (3, 2.5), (8, 6.8)])
def test_mean_wait_of_m_d_c(late_by: Any, seats: int, load: float) -> None:
    """Crommelin's numbers in the system; for one seat they come to Pollaczek and Khinchine's ρ / 2(1 − ρ)."""
    theory = 0.1 * crommelin(seats, load)
    if seats == 1:
        assert theory == pytest.approx(0.1 * load / (2 * (1 - load)), rel=1e-6)
    check(late_by(constant, load / 0.1, seats), long_path(constant, load / 0.1, seats), theory)


KINDS = {
    # by priority: rate per second, mean service in seconds
    "two classes": {1: (3.5, 0.1), 0: (3.5, 0.1)},
    "three classes": {2: (2.5, 0.1), 1: (2.0, 0.1), 0: (2.5, 0.1)},
    "three classes, the least important the longest": {2: (4.0, 0.05), 1: (2.0, 0.1), 0: (1.0, 0.3)},
}


def prioritised(seed: int, count: int, kinds: dict[int, tuple[float, float]]) -> tuple[Floats, Any, Any]:
    """Give arrival times, priorities and services in steps, exponential within each class."""
    chance = np.random.default_rng(seed)
    rates = np.asarray([rate for rate, _ in kinds.values()])
    which = chance.choice(len(kinds), count, p=rates / rates.sum())
    services = chance.exponential(np.asarray([mean for _, mean in kinds.values()])[which])
    return arrivals(chance, count, float(rates.sum())), np.asarray([*kinds])[which], in_steps(services)


def begun_by_recursion(at: Floats, priorities: Any, tokens: Any) -> Floats:
    """One server, the most important first, first come first served among equals, nobody interrupted."""
    came, keys, lengths = at.tolist(), (-priorities).tolist(), (tokens * STEP).tolist()
    begun = [0.0] * len(came)
    waiting: list[tuple[int, int]] = []
    free_at, upcoming = 0.0, 0
    while upcoming < len(came) or waiting:
        if not waiting:
            free_at = max(free_at, came[upcoming])
        while upcoming < len(came) and came[upcoming] <= free_at:
            heappush(waiting, (keys[upcoming], upcoming))
            upcoming += 1
        _, index = heappop(waiting)
        begun[index] = free_at
        free_at += lengths[index]
    return np.asarray(begun)


def one_at_a_time(scenario: Any) -> Any:
    """Priorities are the router's: one request in flight, all others in its queue; no time passes on the way."""
    pool = {"replicas": 1, "step_cost": {"base": STEP}, "max_num_seqs": 1, "num_gpu_blocks": 1_000_000}
    return scenario(
        pool=pool,
        measure={"sample_interval": 60.0},
        router={"overhead": 0, "queue": {"max_requests": 100_000, "max_in_flight_per_endpoint": 1}},
        gateway={"overhead": 0},
        network={"hop": 0},
    )


@pytest.mark.parametrize("classes", KINDS)
def test_mean_waits_of_a_priority_queue(scenario: Any, workload: Any, flown: Any, classes: str) -> None:
    """Cobham: W = W₀ / (1 − ρ of the more important)(1 − ρ of these and those), W₀ = Σ λ E[S²] / 2.

    And each request of a flown path begins in the very instant in which it should.
    """
    kinds = KINDS[classes]
    at, priorities, tokens = prioritised(1, 2500, kinds)
    requests = [
        WorkloadRequest(index, came, 1, length, "m", priority=priority)
        for index, (came, length, priority) in enumerate(
            zip(at.tolist(), tokens.tolist(), priorities.tolist(), strict=True)
        )
    ]
    record = flown(one_at_a_time(scenario), workload(*requests))
    begun = np.asarray([at for at, *_ in sorted(record.decisions, key=lambda decision: decision[1])])
    wanted = begun_by_recursion(at, priorities, tokens)
    assert np.abs(begun - wanted).max() < 1e-6

    at, priorities, tokens = prioritised(2, 500_000, kinds)
    waits = begun_by_recursion(at, priorities, tokens) - at
    residual = sum(rate * 2 * mean**2 / 2 for rate, mean in kinds.values())
    busy = 0.0
    for priority, (rate, mean) in kinds.items():
        theory = residual / ((1 - busy) * (1 - busy - rate * mean))
        busy += rate * mean
        check([0.0], waits[priorities == priority], theory)
