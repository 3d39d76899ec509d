"""A policy sees what a real router sees, as late as it sees it, whatever goes wrong.

A spy for a policy notes what it is shown at each decision; what was true is told by the faults and the samples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.cluster.flight import Flight
from sim.experiment.record import RunRecord
from sim.experiment.scenario import LoadedScenario
from sim.experiment.workload import Workload

HOP, SCRAPE, HEALTH = 0.05, 0.7, 3.0
"""Seconds: one way to a replica, from scrape to scrape, from health check to health check."""

SPY = '''
from reference.policy.view import Decision


class Spy:
    """Round robin that puts what it is shown where scores belong."""

    def __init__(self):
        self.turn = 0

    def route(self, request, endpoints, now, chance):
        self.turn += 1
        seen = []
        for endpoint in endpoints:
            observed = endpoint.observed
            seen += [(endpoint.name, observed.observed_at), (endpoint.name, float(observed.running))]
        return Decision(endpoints[self.turn % len(endpoints)].name, "spied", tuple(seen))
'''

faults = st.lists(
    st.fixed_dictionaries(
        {
            "at": st.integers(10, 250).map(lambda tenth: tenth / 10 + 0.03),
            "kind": st.sampled_from(["replica_crash", "node_loss", "partition", "stall", "slow_replica"]),
            "target": st.sampled_from(["vllm-0", "vllm-1", "node-1"]),
            "lasts": st.integers(5, 60).map(lambda tenth: tenth / 10),
        }
    ),
    max_size=3,
)


@pytest.fixture(scope="module")
def spied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("spy")
    (directory / "spy.py").write_text(SPY)
    return directory


@pytest.fixture
def world(scenario: Any, workload: Any, spied: Path) -> Callable[..., tuple[LoadedScenario, Workload]]:
    """Three replicas on nodes of their own, a request each 0.1 s that takes half a second; nobody is ejected."""

    def make(what: list[dict[str, Any]], **router: Any) -> tuple[LoadedScenario, Workload]:
        given = {
            "policy": {"name": "spy.py:Spy"},
            "scrape_interval": SCRAPE,
            "health_interval": HEALTH,
            "ejection": {"consecutive_failures": 1000},
            **router,
        }
        loaded = scenario(
            base_dir=spied,
            pool={"replicas": 3, "cold_start": 1.0},
            network={"hop": HOP},
            router=given,
            measure={"sample_interval": 0.05},
            faults=what,
        )
        return loaded, workload(*((0.1 * number + 0.017, 8, 50) for number in range(300)))

    return make


def fly(loaded: LoadedScenario, requests: Workload) -> RunRecord:
    flight = Flight(loaded, requests)
    flight.run()
    return flight.record()


def shown(record: RunRecord) -> list[tuple[float, dict[str, tuple[float, float]]]]:
    """Give (when, {endpoint: (observed at, running)}) of each first attempt: a retry is not shown who failed it."""
    found = []
    for at, _, attempt, name, _, scores in record.decisions:
        if name and attempt == 1:
            values = [value for _, value in scores]
            names = [name for name, _ in scores[::2]]
            found.append((at, dict(zip(names, zip(values[::2], values[1::2], strict=True), strict=True))))
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(what=faults)
def test_no_observation_is_newer_than_a_hop_and_each_was_true_when_it_was_made(world: Any, what: Any) -> None:
    """Scrapes are at a hop and every interval from then on; what was read then reaches the router a hop later."""
    record = fly(*world(what))
    truth = {(round(at, 9), component): value for at, component, name, value in record.samples if name == "running"}
    checked = 0
    for at, endpoints in shown(record):
        for name, (observed_at, running) in endpoints.items():
            if observed_at < 0 or (not observed_at and not running):
                continue  # never read yet
            assert observed_at <= at - HOP + 1e-9
            ticks = (observed_at - HOP) / SCRAPE
            assert abs(ticks - round(ticks)) < 1e-6, "read between two scrapes"
            known = truth.get((round(observed_at, 9), f"replica/{name}"))
            if known is not None:
                assert known == running
                checked += 1
    assert checked > 100


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(what=faults)
def test_endpoints_come_and_go_with_health_checks_only(world: Any, what: Any) -> None:
    record = fly(*world(what))
    for (_, before), (at, after) in pairwise(shown(record)):
        if set(before) != set(after):
            last_check = at // HEALTH * HEALTH
            assert at - last_check < 0.21, "the first decision after a check, a request each tenth of a second"


def test_a_crashed_replica_stays_an_endpoint_until_a_health_check_misses_it(world: Any) -> None:
    """Crashed at 10 s: its streams are reset a hop later, but only the check of 12 s takes it out."""
    record = fly(*world([{"at": 10.0, "kind": "replica_crash", "target": "vllm-1", "lasts": 8.0}]))
    offered = [at for at, endpoints in shown(record) if "vllm-1" in endpoints]
    missed = ceil(10.0 / HEALTH) * HEALTH
    assert max(at for at in offered if at < 18.0) == pytest.approx(missed, abs=0.2)
    assert min(at for at in offered if at > missed + 0.5) == pytest.approx(21.0, abs=0.2), "ready at 19 s"
    cut = [
        ended
        for ended, status, name in zip(*(record.requests[key] for key in ("ended", "status", "endpoint")), strict=True)
        if status == "failed" and name == "vllm-1"
    ]
    assert cut
    assert min(cut) == pytest.approx(10.0 + 3 * HOP), "the reset, and two hops on to the client"


def test_a_lost_node_is_known_later_than_a_crash(world: Any) -> None:
    """No reset: whoever streamed hears of it with the health check; the policy is offered the replica until then."""
    heard: dict[str, float] = {}
    for kind, target in (("replica_crash", "vllm-1"), ("node_loss", "node-1")):
        record = fly(*world([{"at": 10.0, "kind": kind, "target": target, "lasts": 8.0}]))
        streams = defaultdict(list)
        rows = record.requests
        for ended, status, tokens in zip(rows["ended"], rows["status"], rows["output_tokens"], strict=True):
            if tokens:
                streams[status].append(ended)
        heard[kind] = min(streams["failed"])
    assert heard["replica_crash"] == pytest.approx(10.0 + 3 * HOP)
    assert heard["node_loss"] == pytest.approx(12.0 + 2 * HOP)


def test_what_a_policy_knows_of_a_replica_behind_a_cut_gets_old(world: Any) -> None:
    what = [{"at": 10.0, "kind": "partition", "target": "vllm-2", "lasts": 4.0}]
    record = fly(*world(what, health_interval=30.0, retry={"max_attempts": 1}))
    ages = [(at, at - endpoints["vllm-2"][0]) for at, endpoints in shown(record) if "vllm-2" in endpoints]
    assert max(age for at, age in ages if at < 10.0) <= SCRAPE + HOP + 1e-9
    assert max(age for at, age in ages if 13.5 < at < 14.0) > 3.5
    assert max(age for at, age in ages if at > 15.0) <= SCRAPE + HOP + 1e-9
