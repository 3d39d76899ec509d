"""What each kind of fault looks like from outside."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import isnan
from typing import Any

import pytest

from sim.experiment.errors import InputError
from sim.experiment.record import RunRecord

Fly = Callable[..., RunRecord]

STEP = 0.01
DENSE = [(0.1 * number + 0.005, 8, 100) for number in range(250)]
STEADY = [(0.5 * number, 8, 100) for number in range(60)]
"""A request each half second for half a minute, each a second long."""


def fault(kind: str, target: str = "vllm-0", at: float = 10.0, lasts: float = 5.0, **more: Any) -> list[dict[str, Any]]:
    return [{"at": at, "kind": kind, "target": target, "lasts": lasts, **more}]


def rows_of(record: RunRecord) -> list[dict[str, Any]]:
    names = list(record.requests)
    return [dict(zip(names, row, strict=True)) for row in zip(*record.requests.values(), strict=True)]


def at_the_time(record: RunRecord, endpoint: str, begin: float, end: float) -> list[dict[str, Any]]:
    """Rows that were dispatched to an endpoint between two times."""
    indices = {index for at, index, _, name, *_ in record.decisions if name == endpoint and begin <= at < end}
    return [row for row in rows_of(record) if row["index"] in indices]


def test_without_faults_every_request_is_answered_in_its_own_time(scenario: Any, workload: Any, flown: Fly) -> None:
    for row in rows_of(flown(scenario(), workload(*((3.0 * number, 8, 100) for number in range(9))))):
        assert row["status"] == "ok"
        assert row["ended"] - row["sent"] == pytest.approx(100 * STEP + 6 * 0.0002 + 2 * 0.001)


def test_a_crash_fails_streams_and_retries_what_has_no_token_yet(scenario: Any, workload: Any, flown: Fly) -> None:
    """The one that streams is cut; the one still in prefill (a step of 10 ms) is answered by the other replica."""
    prompts = [*STEADY[:20], (9.9975, 8, 100), (9.998, 8, 100)]
    record = flown(scenario(pool={"cold_start": 3.0}, faults=fault("replica_crash")), workload(*prompts))
    rows = rows_of(record)
    cut = [row for row in rows if row["status"] == "failed"]
    assert cut
    for row in cut:
        assert row["endpoint"] == "vllm-0"
        assert row["reason"] == "connection lost"
        assert 0 < row["output_tokens"] < 100
        assert row["ended"] == pytest.approx(10.0 + 3 * 0.0002)
    retried = [row for row in rows if row["attempts"] == 2]
    assert [row["endpoint"] for row in retried] == ["vllm-1"] * len(retried)
    assert retried
    assert all(row["status"] == "ok" for row in retried)


def test_a_crashed_replica_is_refused_then_left_out_then_back_after_its_cold_start(
    scenario: Any, workload: Any, flown: Fly
) -> None:
    """Down from 10 s for 5 s, 3 s of cold start, and the health check of 18 s (every 2 s) finds it again."""
    loaded = scenario(pool={"cold_start": 3.0}, faults=fault("replica_crash"))
    record = flown(loaded, workload(*STEADY))
    sent_there = [at for at, _, _, name, *_ in record.decisions if name == "vllm-0"]
    assert not [at for at in sent_there if 12.0 < at < 18.0]
    assert [at for at in sent_there if 18.0 <= at < 19.0]
    assert [event["kind"] for event in record.events] == ["replica_crash", "replica_ready"]
    assert record.events[1]["at"] == 18.0
    sampled = {at for at, component, *_ in record.samples if component == "replica/vllm-0"}
    assert not [at for at in sampled if 10.0 <= at < 18.0]


def test_a_crash_forgets_the_prefix_cache(scenario: Any, workload: Any, flown: Fly) -> None:
    from sim.experiment.workload import PromptSegment, WorkloadRequest

    same = (PromptSegment(7, 160),)
    requests = [WorkloadRequest(index, 2.0 * index, 160, 10, "m", prompt=same) for index in range(12)]
    faults = fault("replica_crash", at=10.5, lasts=0.5)
    record = flown(scenario(pool={"replicas": 1, "cold_start": 0.2}, faults=faults), workload(*requests))
    cached = record.requests["cached_tokens"]
    assert cached[0] == 0
    assert all(tokens > 0 for tokens in cached[1:6])
    served_after = [row["cached_tokens"] for row in rows_of(record) if row["sent"] > 11 and row["status"] == "ok"]
    assert served_after[0] == 0


def test_a_lost_node_takes_its_replicas_and_nobody_is_told(scenario: Any, workload: Any, flown: Fly) -> None:
    """No reset arrives: what streams there hangs until the next health check, and new connections time out."""
    loaded = scenario(
        pool={"replicas": 4, "replicas_per_node": 2, "cold_start": 1.0},
        router={"policy": {"name": "round_robin"}, "ejection": {"consecutive_failures": 100}},
        faults=fault("node_loss", "node-0", 9.25),
    )
    record = flown(loaded, workload(*DENSE))
    assert record.events[0]["about"] == "vllm-0, vllm-1"
    cut = [row for row in rows_of(record) if row["status"] == "failed"]
    assert {row["endpoint"] for row in cut} <= {"vllm-0", "vllm-1"}
    streams = [row for row in cut if row["output_tokens"]]
    assert len(streams) == 5, "half of those that came in the last second"
    assert all(row["ended"] == pytest.approx(10.0 + 2 * 0.0002) for row in streams)
    late = [row for row in at_the_time(record, "vllm-0", 9.25, 10.0) if row["attempts"] > 1]
    assert late
    assert all(row["first_token"] - row["sent"] > 1.0 for row in late)


def test_a_slow_replica_takes_its_factor_longer_while_it_lasts(scenario: Any, workload: Any, flown: Fly) -> None:
    loaded = scenario(pool={"replicas": 1}, faults=fault("slow_replica", factor=3.0))
    rows = rows_of(flown(loaded, workload(*STEADY)))
    inside = [row for row in rows if 10.0 <= row["sent"] < 11.9]
    assert inside
    for row in inside:
        assert row["last_token"] - row["first_token"] == pytest.approx(3 * 99 * STEP)
    assert all(row["last_token"] - row["first_token"] == pytest.approx(99 * STEP) for row in rows if row["sent"] >= 15)


def test_a_stalled_replica_stands_still_and_stays_an_endpoint(scenario: Any, workload: Any, flown: Fly) -> None:
    record = flown(scenario(pool={"replicas": 1}, faults=fault("stall")), workload(*STEADY))
    rows = rows_of(record)
    assert {row["status"] for row in rows} == {"ok"}
    assert not [row for row in rows if 10.02 < row["first_token"] < 15.0]
    assert [at for at, _, _, name, *_ in record.decisions if name == "vllm-0" and 12.0 < at < 15.0]
    held = sum(value for at, _, name, value in record.samples if at == 14.0 and name in ("running", "queue_depth"))
    assert held == 10, "two that ran, and eight that came since"


def test_a_partition_holds_tokens_back_and_loses_none(scenario: Any, workload: Any, flown: Fly) -> None:
    """Streams to the far side arrive when it is over; meanwhile new requests go to the near side after a timeout."""
    record = flown(scenario(faults=fault("partition", at=9.25)), workload(*DENSE))
    rows = rows_of(record)
    assert {row["status"] for row in rows} == {"ok"}
    assert not [row for row in rows if row["endpoint"] == "vllm-0" and 9.26 < row["last_token"] < 14.25]
    held = [row for row in rows if row["endpoint"] == "vllm-0" and row["sent"] < 9.25 < row["last_token"]]
    assert held
    assert all(row["last_token"] == pytest.approx(14.25 + 3 * 0.0002) for row in held)
    assert not [at for at, _, _, name, *_ in record.decisions if name == "vllm-0" and 10.0 < at < 14.25]
    late = [row for row in rows if row["attempts"] == 2]
    assert late
    assert all(row["first_token"] - row["sent"] > 1.0 for row in late)


def test_scrapes_fail_through_a_partition(scenario: Any, workload: Any, flown: Fly, tmp_path: Any) -> None:
    """What the policy knows of the far side is as old as the partition, up to the health check that removes it."""
    (tmp_path / "spy.py").write_text(SPY)
    loaded = scenario(
        router={
            "policy": {"name": "spy.py:Spy"},
            "health_interval": 30.0,
            "ejection": {"consecutive_failures": 100},
            "retry": {"max_attempts": 1},
        },
        base_dir=tmp_path,
        faults=fault("partition", at=9.25),
    )
    record = flown(loaded, workload(*STEADY))
    ages = {at: dict(scores) for at, *_, scores in record.decisions if scores}
    stalest = max(age["vllm-0"] for at, age in ages.items() if 9.25 < at < 14.25)
    assert stalest > 4.0
    assert max(age["vllm-1"] for age in ages.values()) <= 1.01
    assert max(age["vllm-0"] for at, age in ages.items() if at > 16.0) <= 1.01


def test_an_error_burst_answers_its_share_with_errors_that_are_retried(
    scenario: Any, workload: Any, flown: Fly
) -> None:
    many = [(5.0 + 0.02 * number, 8, 5) for number in range(800)]
    loaded = scenario(
        router={
            "policy": {"name": "round_robin"},
            "retry": {"min_per_second": 100.0},
            "ejection": {"consecutive_failures": 100},
        },
        faults=fault("error_burst", share=0.25),
    )
    record = flown(loaded, workload(*many))
    rows = rows_of(record)
    assert {row["status"] for row in rows} == {"ok"}
    first = [row for row in at_the_time(record, "vllm-0", 10.0, 15.0) if row["attempts"] >= 1]
    erred = [row for row in first if row["attempts"] == 2]
    assert 0.15 < len(erred) / len(first) < 0.35
    assert all(row["attempts"] == 1 for row in rows if not 9.99 < row["sent"] < 15.01)


def test_without_retries_an_error_is_the_clients(scenario: Any, workload: Any, flown: Fly) -> None:
    loaded = scenario(pool={"replicas": 1}, router={"retry": {"max_attempts": 1}}, faults=fault("error_burst"))
    inside = [row for row in rows_of(flown(loaded, workload(*STEADY))) if 10.0 <= row["sent"] < 15.0]
    assert len(inside) == 10
    for row in inside:
        assert (row["status"], row["reason"], row["http_status"]) == ("failed", "server error", 500)
        assert isnan(row["first_token"])


def test_a_failing_endpoint_is_ejected_and_comes_back(scenario: Any, workload: Any, flown: Fly) -> None:
    loaded = scenario(router={"policy": {"name": "round_robin"}}, faults=fault("error_burst", lasts=15.0))
    record = flown(loaded, workload(*STEADY))
    there = [at for at, _, _, name, *_ in record.decisions if name == "vllm-0" and at >= 10.0]
    gaps = [later - earlier for earlier, later in pairwise(there)]
    assert max(gaps) >= 5.0


@pytest.mark.parametrize("target", ["vllm-7", "node-9", "vlm"])
def test_a_target_that_cannot_be_is_refused_before_the_flight(
    scenario: Any, workload: Any, flown: Fly, target: str
) -> None:
    with pytest.raises(InputError, match=rf"faults\[0\].target: '{target}' is no replica, node or pool"):
        flown(scenario(faults=fault("stall", target)), workload(*STEADY))


SPY = '''
from reference.policy.view import Decision


class Spy:
    """Round robin that puts the age of each observation where scores belong."""

    def __init__(self):
        self.turn = 0

    def route(self, request, endpoints, now, chance):
        self.turn += 1
        ages = tuple((endpoint.name, now - endpoint.observed.observed_at) for endpoint in endpoints)
        return Decision(endpoints[self.turn % len(endpoints)].name, "spied", ages)
'''
