"""The way of a request: hops and overheads, rate limits, the router's queue, what a policy knows and when."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import Any

import pytest

from sim.experiment.errors import InputError
from sim.experiment.record import RunRecord
from sim.experiment.workload import WorkloadRequest

Fly = Callable[..., RunRecord]
STEP = 0.01


def test_a_lone_request_takes_its_steps_its_hops_and_its_overheads(scenario: Any, workload: Any, flown: Fly) -> None:
    loaded = scenario(
        network={"hop": 0.003},
        gateway={"overhead": 0.005},
        router={"overhead": 0.007, "policy": {"name": "round_robin"}},
    )
    rows = flown(loaded, workload((1.0, 50, 10))).requests
    there, back = 3 * 0.003 + 0.005 + 0.007, 3 * 0.003
    assert rows["first_token"][0] == pytest.approx(1.0 + there + STEP + back, abs=1e-9)
    assert rows["ended"][0] == pytest.approx(1.0 + there + 10 * STEP + back, abs=1e-9)
    assert (rows["chunks"][0], rows["first_chunk_tokens"][0], rows["attempts"][0]) == (10, 1, 1)


@pytest.mark.parametrize("replicas", [1, 3])
def test_gateways_serve_first_come_first_served(scenario: Any, workload: Any, flown: Fly, replicas: int) -> None:
    """Thirty at once, 10 ms each: the last one waits for all before it, divided among the gateways (D/D/c)."""
    loaded = scenario(gateway={"replicas": replicas, "overhead": 0.01}, pool={"step_cost": {"base": 0.000001}})
    record = flown(loaded, workload(*[(1.0, 1, 1)] * 30))
    reached = sorted(at for at, *_ in record.decisions)
    for place, at in enumerate(reached):
        assert at == pytest.approx(1.0 + 0.0004 + 0.001 + 0.01 * (place // replicas + 1), abs=1e-9)


def test_a_tenant_over_its_rate_is_refused_and_others_are_not(scenario: Any, workload: Any, flown: Fly) -> None:
    requests = [
        WorkloadRequest(index, index / 20, 8, 5, "m", tenant="greedy" if index % 2 else "modest")
        for index in range(400)
    ]
    loaded = scenario(gateway={"rate_limits": [{"tenant": "greedy", "requests": 4.0, "burst": 4}]})
    rows = flown(loaded, workload(*requests)).requests
    by_tenant: dict[str, list[str]] = {"greedy": [], "modest": []}
    for tenant, status, code in zip(rows["tenant"], rows["status"], rows["http_status"], strict=True):
        by_tenant[tenant].append(status)
        assert code == (200 if status == "ok" else 429)
    assert by_tenant["modest"] == ["ok"] * 200
    assert by_tenant["greedy"].count("ok") == pytest.approx(4 * 20 + 4, abs=1)
    assert by_tenant["greedy"].count("refused") > 100


def test_tokens_bound_what_passes(scenario: Any, workload: Any, flown: Fly) -> None:
    """100 tokens a request against 100 a second: one a second passes."""
    loaded = scenario(gateway={"rate_limits": [{"tokens": 100.0, "token_burst": 100}]})
    rows = flown(loaded, workload(*((0.25 * number, 50, 50) for number in range(80)))).requests
    assert rows["status"].count("ok") == pytest.approx(20, abs=1)


def test_a_request_that_the_router_refuses_is_given_back(scenario: Any, workload: Any, flown: Fly) -> None:
    """Two requests a tenant for ever: one is served, one is refused for a full queue, so one more may come."""
    loaded = scenario(
        pool={"replicas": 1},
        router={"queue": {"max_requests": 0, "max_in_flight_per_endpoint": 1}},
        gateway={"rate_limits": [{"requests": 0.0001, "burst": 2}]},
    )
    record = flown(loaded, workload((1.0, 8, 100), (1.5, 8, 10), (5.0, 8, 10), (9.0, 8, 10)))
    assert record.requests["status"] == ["ok", "refused", "ok", "refused"]
    assert record.requests["reason"][1] == "the queue is full"
    assert record.requests["reason"][3] == "default has used up its requests"


def test_concurrency_is_held_from_admission_to_the_answer(scenario: Any, workload: Any, flown: Fly) -> None:
    loaded = scenario(gateway={"rate_limits": [{"concurrency": 2}]}, measure={"sample_interval": 0.05})
    record = flown(loaded, workload(*((0.1 * number, 8, 100) for number in range(100))))
    assert max(value for _, component, _, value in record.samples if component == "gateway") == 2
    assert record.requests["status"].count("ok") == pytest.approx(2 * 10, abs=2)


def test_a_full_queue_refuses_and_a_slow_one_expires(scenario: Any, workload: Any, flown: Fly) -> None:
    queue = {"max_requests": 3, "max_wait": 1.5, "max_in_flight_per_endpoint": 1}
    record = flown(scenario(router={"queue": queue}), workload(*[(1.0, 8, 100)] * 10))
    rows = record.requests
    assert rows["status"].count("ok") == 4
    reasons = [reason for reason in rows["reason"] if reason]
    assert reasons.count("the queue is full") == 5
    assert reasons.count("waited too long for an endpoint") == 1
    assert [at for at, _, _, endpoint, reason, _ in record.decisions if reason.startswith("waited")] == [
        pytest.approx(1.0 + 0.0004 + 0.002 + 1.5, abs=0.02)
    ]


def test_a_queued_request_goes_as_soon_as_the_router_hears_of_a_free_place(
    scenario: Any, workload: Any, flown: Fly
) -> None:
    loaded = scenario(pool={"replicas": 1}, router={"queue": {"max_in_flight_per_endpoint": 1}})
    record = flown(loaded, workload((1.0, 8, 10), (1.01, 8, 10)))
    (_, *_), (second, *_) = record.decisions
    assert second == pytest.approx(record.requests["ended"][0] - 2 * 0.0002, abs=1e-12)


def test_a_client_that_leaves_frees_its_seat_within_a_step(scenario: Any, workload: Any, flown: Fly) -> None:
    """A prompt of 200 chunks is given up half-way; the next one in line begins a step after the news has come."""
    impatient = WorkloadRequest(0, 1.0, 4000, 10, "m", deadline_seconds=0.5)
    patient = WorkloadRequest(1, 1.1, 20, 10, "m")
    pool = {"replicas": 1, "max_num_seqs": 1, "max_num_batched_tokens": 20}
    rows = flown(scenario(pool=pool), workload(impatient, patient)).requests
    assert rows["status"] == ["timed_out", "ok"]
    assert rows["ended"][0] == 1.5
    news = 1.5 + 3 * 0.0002
    assert news + STEP < rows["first_token"][1] - 3 * 0.0002 <= news + 2 * STEP


def test_a_first_token_on_its_way_is_too_late_for_a_client_that_has_left(
    scenario: Any, workload: Any, flown: Fly
) -> None:
    """It leaves the engine after 0.312 s and would arrive after 0.612 s."""
    hurried = WorkloadRequest(0, 1.0, 8, 50, "m", deadline_seconds=0.5)
    rows = flown(scenario(network={"hop": 0.1}), workload(hurried)).requests
    assert rows["status"] == ["timed_out"]
    assert isnan(rows["first_token"][0])
    assert (rows["ended"], rows["output_tokens"]) == ([1.5], [0])


def test_a_client_in_the_routers_queue_leaves_without_a_trace(scenario: Any, workload: Any, flown: Fly) -> None:
    requests = [WorkloadRequest(0, 1.0, 8, 200, "m"), WorkloadRequest(1, 1.1, 8, 10, "m", deadline_seconds=0.3)]
    loaded = scenario(pool={"replicas": 1}, router={"queue": {"max_in_flight_per_endpoint": 1}})
    record = flown(loaded, workload(*requests))
    assert record.requests["status"] == ["ok", "timed_out"]
    assert record.requests["attempts"] == [1, 0]
    assert record.facts["engine"]["vllm"]["submitted"] == 1


def test_what_a_policy_observes_is_as_old_as_the_last_scrape(
    scenario: Any, workload: Any, flown: Fly, tmp_path: Path
) -> None:
    """Never fresher than a hop, never older than an interval and two hops; and what it saw then was true."""
    (tmp_path / "spy.py").write_text(SPY)
    loaded = scenario(
        base_dir=tmp_path, network={"hop": 0.03}, router={"policy": {"name": "spy.py:Spy"}, "scrape_interval": 0.7}
    )
    record = flown(loaded, workload(*((1.0 + 0.01 * number, 8, 60) for number in range(500))))
    ages = [age for *_, scores in record.decisions for name, age in scores if not name.endswith(" running")]
    assert 0.03 <= min(ages) < 0.041
    assert 0.71 < max(ages) <= 0.7 + 0.03 + 1e-9
    seen = {value for *_, scores in record.decisions for name, value in scores if name == "vllm-0 running"}
    assert max(seen) > 2


def test_prompts_that_share_a_prefix_find_it_where_they_are_sent(scenario: Any, workload: Any, flown: Fly) -> None:
    from sim.experiment.workload import PromptSegment

    requests = [
        WorkloadRequest(
            index, 0.5 * index, 400, 10, "m", prompt=(PromptSegment(index % 4, 320), PromptSegment(100 + index, 80))
        )
        for index in range(40)
    ]
    cached = {}
    for policy in ("prefix_aware", "round_robin"):
        record = flown(scenario(pool={"replicas": 3}, router={"policy": {"name": policy}}), workload(*requests))
        cached[policy] = record.requests["cached_tokens"]
        assert set(cached[policy]) == {0, 320}
    assert cached["prefix_aware"].count(0) == 4
    assert cached["round_robin"].count(0) == 12


def test_a_model_that_nobody_serves_is_not_found(scenario: Any, workload: Any, flown: Fly) -> None:
    rows = flown(scenario(), workload(WorkloadRequest(0, 0.0, 8, 5, "other"))).requests
    assert (rows["status"], rows["http_status"]) == (["refused"], [404])


def test_a_prompt_too_long_for_its_replica_is_refused_once(scenario: Any, workload: Any, flown: Fly) -> None:
    rows = flown(scenario(pool={"max_model_len": 100}), workload((0.0, 99, 5))).requests
    assert (rows["status"], rows["http_status"], rows["attempts"]) == (["refused"], [400], [1])


def test_pools_of_one_model_serve_it_together(scenario: Any, workload: Any, flown: Fly) -> None:
    pools = [
        {"name": name, "model": "m", "replicas": 1, "step_cost": {"base": base}, "num_gpu_blocks": 100}
        for name, base in (("old", 0.02), ("new", 0.01))
    ]
    record = flown(scenario(pools=pools), workload(*((0.1 * number, 8, 50) for number in range(50))))
    assert set(record.requests["endpoint"]) == {"old-0", "new-0"}
    assert set(record.facts["engine"]) == {"old", "new"}


def test_requests_still_open_after_overtime_are_cancelled(
    scenario: Any, workload: Any, flown: Fly, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sim.cluster.flight.OVERTIME_SECONDS", 1.0)
    rows = flown(scenario(), workload((0.0, 8, 10), (1.0, 8, 1000))).requests
    assert rows["status"] == ["ok", "cancelled"]
    assert rows["ended"][1] == 3.0


def test_progress_ends_at_the_end(scenario: Any, workload: Any, flown: Fly) -> None:
    told: list[float] = []
    flown(scenario(), workload(*((float(second), 8, 10) for second in range(200))), progress=told.append)
    assert told == sorted(told)
    assert told[0] < 0.05
    assert told[-1] == 1.0


@pytest.mark.parametrize(
    ("router", "pool", "message"),
    [
        ({"policy": {"name": "least_in_fight"}}, {}, "cluster.router.policy: .*least_in_flight"),
        ({}, {"step_cost": None, "gpu": "h1000"}, "cluster.pools: vllm: .*h1000"),
    ],
)
def test_names_that_nobody_knows_are_refused(
    scenario: Any, workload: Any, flown: Fly, router: dict[str, Any], pool: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        flown(scenario(router=router, pool=pool), workload((0.0, 8, 5)))


SPY = '''
from reference.policy.view import Decision


class Spy:
    """Round robin that puts what it observes, and its age, where scores belong."""

    def __init__(self):
        self.turn = 0

    def route(self, request, endpoints, now, chance):
        self.turn += 1
        seen = []
        for endpoint in endpoints:
            seen.append((endpoint.name, now - endpoint.observed.observed_at))
            seen.append((endpoint.name + " running", float(endpoint.observed.running)))
        return Decision(endpoints[self.turn % len(endpoints)].name, "spied", tuple(seen))
'''
