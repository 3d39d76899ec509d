"""Clients that send again: what they do, what is counted, and the storm that outlives its cause."""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import mean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.experiment.record import RunRecord
from sim.experiment.resending import Resending
from sim.experiment.samples import Samples
from sim.experiment.schema import ClientRetry
from sim.experiment.workload import WorkloadRequest

Fly = Callable[..., RunRecord]

HOP, OVERHEAD = 0.0002, 0.001
AT_ONCE = {"max_sends": 3}


def clients(**retry: Any) -> dict[str, Any]:
    """A workload block whose one class sends again."""
    return {"classes": [{"name": "default", "retry": retry}]}


def rows_of(record: RunRecord) -> list[dict[str, Any]]:
    names = list(record.requests)
    return [dict(zip(names, row, strict=True)) for row in zip(*record.requests.values(), strict=True)]


def burst_of_errors(lasts: float = 5.0, target: str = "vllm-0") -> list[dict[str, Any]]:
    return [{"at": 10.0, "kind": "error_burst", "target": target, "lasts": lasts, "share": 1.0}]


ONE = {"pool": {"replicas": 1}, "router": {"retry": {"max_attempts": 1}}}


def test_who_never_loses_a_send_flies_as_if_clients_sent_once(
    scenario: Any, workload: Any, flown: Fly, same_record: Any
) -> None:
    """The gateway's queue included: two gateways of 40 ms each, which a hundred requests of 10 s share."""
    requests = [(0.1 * number + 0.003 * (number % 7), 30, 40) for number in range(100)]
    blocks = {"gateway": {"replicas": 2, "overhead": 0.04}}
    without = flown(scenario(**blocks), workload(*sorted(requests)))
    record = flown(scenario(**blocks, workload=clients(**AT_ONCE)), workload(*sorted(requests)))
    assert record.facts.pop("client_retries") == {"resends": 0, "requests_sent_again": 0, "given_up": 0}
    record.samples = Samples(sample for sample in record.samples if sample[1] != "clients")
    same_record(record, without)


def test_a_lost_send_is_followed_by_others_after_growing_backoffs(scenario: Any, workload: Any, flown: Fly) -> None:
    """Errors from 10 s to 16 s; sent at 12 s, then after 1 s, 2 s and 4 s: the fourth gets through."""
    loaded = scenario(**ONE, faults=burst_of_errors(6.0), workload=clients(max_sends=4, backoff=1.0))
    record = flown(loaded, workload((12.0, 8, 10)))
    (row,) = rows_of(record)
    way = 3 * HOP + 2 * OVERHEAD
    lost = way + 3 * HOP
    assert (row["status"], row["sends"], row["attempts"], row["endpoint"]) == ("ok", 4, 4, "vllm-0")
    assert (row["sent"], row["scheduled"]) == (12.0, 12.0)
    assert row["first_token"] == pytest.approx(12.0 + 3 * lost + 7.0 + way + 0.01 + 3 * HOP)
    assert [(index, attempt) for _, index, attempt, *_ in record.decisions] == [(0, 1), (0, 2), (0, 3), (0, 4)]
    assert record.facts["client_retries"] == {"resends": 3, "requests_sent_again": 1, "given_up": 0}


def test_clients_give_up_after_their_last_send(scenario: Any, workload: Any, flown: Fly) -> None:
    loaded = scenario(**ONE, faults=burst_of_errors(), workload=clients(max_sends=3))
    record = flown(loaded, workload((12.0, 8, 10), (20.0, 8, 10)))
    lost, served = rows_of(record)
    assert (lost["status"], lost["reason"], lost["http_status"], lost["sends"]) == ("failed", "server error", 500, 3)
    assert (served["status"], served["sends"]) == ("ok", 1)
    assert record.facts["client_retries"] == {"resends": 2, "requests_sent_again": 1, "given_up": 1}


def test_a_deadline_is_each_sends_own(scenario: Any, workload: Any, flown: Fly) -> None:
    """A stall of 5 s, patience for 1 s: sends at 12, 13 and 14 s time out, and so does none of 15 s."""
    faults = [{"at": 11.0, "kind": "stall", "target": "vllm-0", "lasts": 3.5}]
    loaded = scenario(**ONE, faults=faults, workload=clients(max_sends=5))
    (row,) = rows_of(flown(loaded, workload((12.0, 8, 10), deadline_seconds=1.0)))
    assert (row["status"], row["sends"]) == ("ok", 3)
    assert 14.5 < row["first_token"] < 14.6


def test_a_refusal_for_a_full_queue_is_sent_again_and_a_wrong_request_is_not(
    scenario: Any, workload: Any, flown: Fly
) -> None:
    loaded = scenario(
        pool={"replicas": 1, "max_model_len": 300},
        router={"queue": {"max_requests": 0, "max_in_flight_per_endpoint": 1}},
        workload=clients(max_sends=2, backoff=3.0),
    )
    record = flown(loaded, workload((1.0, 8, 200), (2.0, 8, 10), (20.0, 299, 10)))
    served, refused_once, too_long = rows_of(record)
    assert [row["sends"] for row in (served, refused_once, too_long)] == [1, 2, 1]
    assert refused_once["status"] == "ok"
    assert (too_long["status"], too_long["http_status"]) == ("refused", 400)


def test_a_stream_that_breaks_off_is_not_sent_again(scenario: Any, workload: Any, flown: Fly) -> None:
    faults = [{"at": 10.0, "kind": "replica_crash", "target": "vllm-0", "lasts": 1.0}]
    loaded = scenario(pool={"replicas": 1}, faults=faults, workload=clients(**AT_ONCE))
    (row,) = rows_of(flown(loaded, workload((9.5, 8, 100))))
    assert (row["status"], row["sends"]) == ("failed", 1)
    assert 0 < row["output_tokens"] < 100


def test_a_class_without_retry_sends_once_beside_one_with(scenario: Any, workload: Any, flown: Fly) -> None:
    kinds = {"classes": [{"name": "stubborn", "retry": {"max_sends": 3}}, {"name": "meek"}]}
    requests = [
        WorkloadRequest(index, 11.0 + 0.1 * index, 8, 5, "m", traffic_class="meek" if index % 2 else "stubborn")
        for index in range(10)
    ]
    rows = rows_of(flown(scenario(**ONE, faults=burst_of_errors(), workload=kinds), workload(*requests)))
    assert [row["sends"] for row in rows] == [3, 1] * 5


def test_resends_are_seen_in_the_samples(scenario: Any, workload: Any, flown: Fly) -> None:
    loaded = scenario(**ONE, faults=burst_of_errors(), workload=clients(max_sends=3, backoff=0.1))
    record = flown(loaded, workload(*((10.05 + 0.5 * number, 8, 5) for number in range(40)), duration=31.0))
    seen = {at: value for at, component, _, value in record.samples if component == "clients"}
    assert sum(seen.values()) == record.facts["client_retries"]["resends"] == 2 * 10
    assert {at for at, value in seen.items() if value} <= {11.0, 12.0, 13.0, 14.0, 15.0}


BACKOFFS = st.fixed_dictionaries(
    {
        "backoff": st.sampled_from([0.5, 3.0]),
        "multiplier": st.sampled_from([1.0, 2.0]),
        "max_backoff": st.just(4.0),
        "jitter": st.sampled_from([0.0, 0.5, 1.0]),
    }
)


@given(
    rule=st.builds(
        lambda max_sends, budget, more: ClientRetry(max_sends=max_sends, budget=budget, **more),
        st.integers(2, 6),
        st.sampled_from([None, 0.0, 0.1, 1.0]),
        st.just({}) | BACKOFFS,
    ),
    num_requests=st.integers(1, 200),
    seed=st.integers(0, 9),
)
def test_resends_keep_to_their_number_their_backoff_and_their_budget(
    rule: ClientRetry, num_requests: int, seed: int
) -> None:
    resending = Resending(rule, random.Random(seed).random)
    resends = 0
    for number in range(num_requests):
        resending.count()
        sends = 1
        while (delay := resending.delay(sends, "failed", 503, float(number))) is not None:
            longest = min(rule.max_backoff, rule.backoff * rule.multiplier ** (sends - 1))
            assert (1.0 - rule.jitter) * longest - 1e-12 <= delay <= longest
            sends += 1
        assert sends <= rule.max_sends
        resends += sends - 1
        if rule.budget is None:
            assert sends == rule.max_sends
    assert resending.num_given_up == num_requests
    if rule.budget is not None:
        assert resends <= rule.budget * num_requests


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_sends": 1}, "greater than 1"),
        ({"jitter": 0.5}, "jitter changes a backoff, and there is none"),
        ({"multiplier": 1.5}, "multiplier changes a backoff, and there is none"),
        ({"backoff": 10.0, "max_backoff": 5.0}, "max_backoff 5s is below backoff 10s"),
        ({"after": ("cancelled",)}, "timed_out"),
    ],
)
def test_a_rule_that_would_be_ignored_in_part_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClientRetry(**given)


def test_what_a_refusal_says_is_waited_for_instead_of_the_backoff() -> None:
    heeding = Resending(ClientRetry(backoff=0.5, max_backoff=30.0, heeds_retry_after=True), random.random)
    stubborn = Resending(ClientRetry(backoff=0.5, max_backoff=30.0), random.random)

    assert heeding.delay(1, "refused", 429, 0.0, 7.0) == 7.0
    assert heeding.delay(1, "refused", 429, 0.0, 31.0) == 0.5, "nobody waits for longer than max_backoff"
    assert heeding.delay(1, "failed", 502, 0.0) == 0.5
    assert stubborn.delay(1, "refused", 429, 0.0, 7.0) == 0.5


@pytest.mark.parametrize(("heeds", "sent_at"), [(False, [0.0, 0.1, 0.2]), (True, [0.0, 4.0])])
def test_clients_of_a_gateway_that_says_when_come_then(
    scenario: Any, workload: Any, flown: Fly, heeds: bool, sent_at: list[float]
) -> None:
    """One request in four seconds: the second client is told to come in 4 s, and then has its turn."""
    limits = {"rate_limits": [{"tenant": "*", "requests": 0.25, "burst": 1}]}
    rule = clients(max_sends=3, backoff=0.1, multiplier=1.0, heeds_retry_after=heeds)
    record = flown(scenario(**ONE, gateway=limits, workload=rule), workload((0.0, 8, 5), (0.0, 8, 5), duration=20.0))

    assert record.requests["sends"] == [1, len(sent_at)]
    assert record.requests["status"] == ["ok", "ok" if heeds else "refused"]
    assert record.requests["ended"][1] == pytest.approx(sent_at[-1], abs=0.2)


def test_ends_that_the_rule_does_not_name_are_taken_as_they_are() -> None:
    resending = Resending(ClientRetry(after=("timed_out",)), random.random)
    assert resending.delay(1, "timed_out", 408, 0.0) == 0.0
    assert resending.delay(1, "refused", 429, 0.0) is None
    assert resending.delay(1, "cancelled", 0, 0.0) is None


STORM = {
    "pool": {"replicas": 1, "max_num_seqs": 1, "max_num_batched_tokens": 1, "step_cost": {"base": 0.1}},
    "router": {"retry": {"max_attempts": 1}, "ejection": {"consecutive_failures": 100}},
    "measure": {"sample_interval": 5.0},
}
"""A server of one seat that takes a second over a prompt."""

A_SHORT_STALL = [{"at": 100.0, "kind": "stall", "target": "vllm-0", "lasts": 40.0}]
"""Forty of nine hundred seconds in which nothing moves."""

STUBBORN = {"max_sends": 10}
SHORT_QUEUE = {"queue": {"max_requests": 2, "max_in_flight_per_endpoint": 1}}


@pytest.fixture
def served(scenario: Any, workload: Any, flown: Fly) -> Callable[..., float]:
    """Fly at 60 % of what the server can do, with clients that wait for six seconds.

    Gives the share served of the requests scheduled two minutes after the fault and later.
    """
    chance = random.Random(3)
    requests: list[WorkloadRequest] = []
    at = 0.0
    while (at := at + chance.expovariate(0.6)) < 900.0:
        requests.append(WorkloadRequest(len(requests), at, 10, 1, "m", deadline_seconds=6.0))

    def fly_it(faults: list[dict[str, Any]], retry: dict[str, Any], **router: Any) -> float:
        blocks = STORM | {"router": STORM["router"] | router, "workload": clients(**retry)}
        record = flown(scenario(**blocks, faults=faults), workload(*requests, duration=900.0))
        rows = rows_of(record)
        assert len(rows) == len(requests)
        assert all(row["status"] in ("ok", "timed_out", "refused") and 1 <= row["sends"] <= 10 for row in rows)
        assert sum(row["sends"] - 1 for row in rows) == record.facts["client_retries"]["resends"]
        assert sum(row["status"] != "ok" for row in rows) == record.facts["client_retries"]["given_up"]
        return mean(row["status"] == "ok" for row in rows if row["scheduled"] > 260.0)

    return fly_it


def test_a_load_that_is_stable_stays_down_after_a_short_fault_when_clients_send_again_at_once(served: Any) -> None:
    """Metastable: the cause is gone, the resends keep the server at work on what nobody waits for any more."""
    assert served([], STUBBORN) > 0.98
    assert served(A_SHORT_STALL, {"max_sends": 2, "budget": 0.0}) > 0.98
    assert served(A_SHORT_STALL, STUBBORN) < 0.2


@pytest.mark.parametrize(
    ("retry", "router"),
    [
        ({**STUBBORN, "budget": 0.1}, {}),
        ({**STUBBORN, "backoff": 20.0, "jitter": 0.5}, {}),
        (STUBBORN, SHORT_QUEUE),
    ],
    ids=["a budget", "backoff", "shedding"],
)
def test_the_storm_ends_by(served: Any, retry: dict[str, Any], router: dict[str, Any]) -> None:
    assert served(A_SHORT_STALL, retry, **router) > 0.9
