"""The pool: requests are conserved whatever happens, and what it promises about queues, retries and ejection."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reference.policy.ejection import EjectionPolicy, EjectionSettings
from reference.policy.pool import Action, Dispatch, Fail, Outcome, Pool, PoolSettings, Refuse
from reference.policy.routing.load import LeastInFlight, RoundRobin
from reference.policy.view import Decision, RequestView

NAMES = ["a", "b", "c"]


def request(number: int, now: float = 0.0, **fields: object) -> RequestView:
    return RequestView(str(number), "model", now, 10, **fields)


def pool_of(*names: str, settings: PoolSettings | None = None) -> Pool:
    pool = Pool(settings or PoolSettings(), LeastInFlight(), random.Random(0).random)
    for name in names:
        pool.add_endpoint(name, 0.0)
    return pool


class PoolMachine(RuleBasedStateMachine):
    """Any order of events. I1: every request submitted is in exactly one place, and told its end exactly once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.number = 0
        self.flying: dict[str, str] = {}
        self.ended: set[str] = set()
        self.pool = Pool(
            PoolSettings(
                max_queued=3, max_wait_seconds=5.0, max_in_flight_per_endpoint=2, ejection=EjectionSettings(2)
            ),
            LeastInFlight(),
            random.Random(0).random,
        )

    def take(self, actions: list[Action]) -> None:
        for action in actions:
            request_id = action.request.request_id
            assert request_id not in self.ended, "an action about a request that had ended"
            if isinstance(action, Dispatch):
                assert request_id not in self.flying
                self.flying[request_id] = action.endpoint
            else:
                self.flying.pop(request_id, None)
                self.ended.add(request_id)

    @rule(name=st.sampled_from(NAMES), version=st.sampled_from(["1", "2"]))
    def add(self, name: str, version: str) -> None:
        self.take(self.pool.add_endpoint(name, self.now, 1.0 + (version == "1"), version))

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        self.take(self.pool.remove_endpoint(name, self.now))

    @rule(name=st.sampled_from(NAMES))
    def drain(self, name: str) -> None:
        self.take(self.pool.drain(name, self.now))

    @rule(priority=st.integers(0, 2), tenant=st.sampled_from(["red", "blue"]), patience=st.sampled_from([None, 1.0]))
    def submit(self, priority: int, tenant: str, patience: float | None) -> None:
        self.number += 1
        deadline = None if patience is None else self.now + patience
        self.take(
            self.pool.submit(
                request(self.number, self.now, priority=priority, tenant=tenant, deadline=deadline), self.now
            )
        )

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), outcome=st.sampled_from(list(Outcome)))
    def finish(self, data: st.DataObject, outcome: Outcome) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.flying)))
        del self.flying[request_id]
        actions = self.pool.finished(request_id, outcome, self.now)
        if outcome not in (Outcome.FAILED, Outcome.REFUSED):
            self.ended.add(request_id)
            assert all(action.request.request_id != request_id for action in actions)
        self.take(actions)

    @precondition(lambda self: self.number)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        request_id = str(data.draw(st.integers(1, self.number)))
        if request_id in self.ended:
            return
        self.flying.pop(request_id, None)
        self.ended.add(request_id)
        self.take(self.pool.cancel(request_id, self.now))

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def first_token(self, data: st.DataObject) -> None:
        self.pool.first_token(data.draw(st.sampled_from(sorted(self.flying))), self.now)

    @rule(seconds=st.sampled_from([1.0, 7.0]))
    def pass_time_before_anybody_notices(self, seconds: float) -> None:
        self.now += seconds

    @rule(seconds=st.sampled_from([0.1, 1.0, 7.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.pool.expire(self.now))

    @invariant()
    def requests_are_conserved(self) -> None:
        counters = self.pool.counters
        gone = counters.completed + counters.failed + counters.refused + counters.cancelled + counters.client_errors
        assert counters.submitted == gone + self.pool.num_in_flight + self.pool.num_queued
        assert self.pool.num_in_flight == len(self.flying)

    @invariant()
    def limits_hold_and_work_is_conserved(self) -> None:
        for endpoint in self.pool.endpoints:
            assert 0 <= endpoint.in_flight <= 2
        takes = [e for e in self.pool.endpoints if not e.is_draining and e.ejected_until is None and e.in_flight < 2]
        assert not (takes and self.pool.num_queued), "a request waits although an endpoint would take it"

    @invariant()
    def somebody_will_look_when_an_endpoint_that_could_serve_is_back(self) -> None:
        ends = [e.ejected_until for e in self.pool.endpoints if e.ejected_until is not None]
        if ends and self.pool.num_queued:
            assert self.pool.next_deadline() <= min(ends)

    @invariant()
    def the_last_endpoint_is_never_ejected(self) -> None:
        taking = [endpoint for endpoint in self.pool.endpoints if not endpoint.is_draining]
        assert bool(self.pool._roster.available) == bool(taking)
        assert {endpoint.name for endpoint in self.pool._roster.available} <= {endpoint.name for endpoint in taking}


TestThePool = PoolMachine.TestCase
TestThePool.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_pool_without_endpoints_refuses_with_503() -> None:
    (refusal,) = pool_of().submit(request(1), 0.0)

    assert isinstance(refusal, Refuse)
    assert refusal.rejected.status == 503


def test_a_full_queue_sheds_the_least_important_for_a_more_important_one() -> None:
    pool = pool_of("a", settings=PoolSettings(max_queued=1, max_in_flight_per_endpoint=1))
    pool.submit(request(1), 0.0)
    pool.submit(request(2, priority=0), 0.0)

    (shed,) = pool.submit(request(3, priority=5), 0.0)
    (refused,) = pool.submit(request(4, priority=0), 0.0)

    assert (shed.request.request_id, refused.request.request_id) == ("2", "4")
    assert refused.rejected.status == 429
    assert refused.rejected.retry_after_seconds >= 1


def test_the_most_important_leaves_the_queue_first_then_the_tenant_with_the_least_in_flight() -> None:
    pool = pool_of("a", settings=PoolSettings(max_in_flight_per_endpoint=2))
    for number, tenant in enumerate(["red", "red", "red", "blue"], 1):
        pool.submit(request(number, float(number), tenant=tenant), float(number))
    pool.submit(request(5, 5.0, tenant="red", priority=1), 5.0)

    order = [pool.finished(done, Outcome.OK, 6.0)[0].request.request_id for done in ("1", "2")]

    assert order == ["5", "4"]


def test_a_failed_attempt_goes_to_another_endpoint_and_a_streaming_one_does_not() -> None:
    pool = pool_of("a", "b")
    pool._budget.balance = 10.0
    (first,) = pool.submit(request(1), 0.0)

    (retry,) = pool.finished("1", Outcome.FAILED, 1.0)
    pool.first_token("1", 2.0)
    (failure,) = pool.finished("1", Outcome.FAILED, 3.0)

    assert isinstance(retry, Dispatch)
    assert (retry.attempt, retry.endpoint != first.endpoint) == (2, True)
    assert isinstance(failure, Fail)


def test_retries_stay_within_their_share_of_the_requests() -> None:
    pool = pool_of("a", "b", settings=PoolSettings(retry_budget_ratio=0.1, retry_min_per_second=0.0))
    for number in range(1000):
        actions = pool.submit(request(number), 0.0)
        while isinstance(actions[0], Dispatch):
            actions = pool.finished(str(number), Outcome.FAILED, 0.0)

    assert pool.counters.retries <= 100


def test_two_failures_of_one_request_count_once_and_answers_of_4xx_never() -> None:
    pool = pool_of("a", settings=PoolSettings(ejection=EjectionSettings(failures=2), max_attempts=5))
    pool.add_endpoint("b", 0.0)
    pool.drain("b", 0.0)
    pool._budget.balance = 10.0
    pool.submit(request(1), 0.0)
    pool.finished("1", Outcome.FAILED, 0.0)
    pool.finished("1", Outcome.FAILED, 0.0)
    pool.cancel("1", 0.0)
    pool.add_endpoint("b", 0.0)
    for number in range(2, 9):
        pool.submit(request(number), 0.0)
        pool.finished(str(number), Outcome.CLIENT_ERROR, 0.0)

    assert [endpoint.ejected_until for endpoint in pool.endpoints] == [None, None]


def test_an_endpoint_that_fails_for_weeks_is_left_out_for_no_longer_than_the_maximum() -> None:
    ejection = EjectionPolicy(EjectionSettings(failures=1, base_seconds=5.0, max_seconds=60.0))
    times = [ejection.eject("a", 0.0) for _ in range(2000)]

    assert times[:5] == [5.0, 10.0, 20.0, 40.0, 60.0]
    assert times[-1] == 60.0


def test_requests_that_fail_by_turns_count_once_each() -> None:
    ejection = EjectionPolicy(EjectionSettings(failures=3))

    assert not any(ejection.failed("a", request_id) for request_id in "121212")
    assert ejection.failed("a", "3")


def test_a_retry_leaves_the_version_that_failed() -> None:
    for seed in range(20):
        pool = Pool(PoolSettings(), LeastInFlight(), random.Random(seed).random)
        pool.add_endpoint("old", 0.0, weight=9.0, version="1")
        pool.add_endpoint("new", 0.0, weight=1.0, version="2")
        (first,) = pool.submit(request(1), 0.0)
        (retry,) = pool.finished("1", Outcome.FAILED, 1.0)

        assert {first.endpoint, retry.endpoint} == {"old", "new"}


def test_a_request_that_waits_a_second_time_has_its_whole_wait() -> None:
    pool = pool_of("a", settings=PoolSettings(max_in_flight_per_endpoint=1, max_wait_seconds=10.0))
    pool.submit(request(1), 0.0)
    pool.submit(request(2), 0.0)
    pool.finished("1", Outcome.OK, 1.0)
    pool.drain("a", 2.0)
    pool.add_endpoint("b", 2.0)
    pool.submit(request(3), 2.0)

    assert pool.finished("2", Outcome.FAILED, 9.0) == [], "b is busy with 3"
    assert pool.next_deadline() == 19.0
    assert pool.expire(10.0) == []


def test_who_has_waited_goes_first_to_an_endpoint_that_is_back() -> None:
    settings = PoolSettings(
        max_in_flight_per_endpoint=1, max_attempts=1, ejection=EjectionSettings(failures=1, base_seconds=5.0)
    )
    pool = pool_of("a", "b", settings=settings)
    pool.submit(request(1), 0.0)
    pool.finished("1", Outcome.FAILED, 0.0)
    pool.submit(request(2), 1.0)
    assert pool.submit(request(3), 1.0) == []

    (dispatch,) = pool.submit(request(4), 5.0)

    assert (dispatch.request.request_id, dispatch.endpoint) == ("3", "a")
    assert pool.num_queued == 1


def test_an_id_can_only_be_here_once() -> None:
    pool = pool_of("a", settings=PoolSettings(max_in_flight_per_endpoint=1))
    for number in (1, 2):
        pool.submit(request(number), 0.0)
        with pytest.raises(ValueError, match=f"'{number}' is here already"):
            pool.submit(request(number), 0.0)


@given(order=st.permutations(["a", "b", "c", "d"]), ends=st.lists(st.integers(0, 11), max_size=12, unique=True))
def test_the_order_in_which_endpoints_are_found_decides_nothing(order: list[str], ends: list[int]) -> None:
    chosen = []
    for names in (sorted(order), order):
        pool = pool_of(*names)
        log = [pool.submit(request(number), 0.0)[0].endpoint for number in range(12)]
        for number in ends:
            pool.finished(str(number), Outcome.OK, 1.0)
        chosen.append([*log, *(pool.submit(request(number), 2.0)[0].endpoint for number in range(12, 24))])

    assert chosen[0] == chosen[1]
    assert chosen[0][:4] == ["a", "b", "c", "d"], "ties go by name"


def test_an_ejected_endpoint_is_back_when_its_time_is_over() -> None:
    settings = PoolSettings(ejection=EjectionSettings(failures=1, base_seconds=5.0), max_attempts=1)
    pool = Pool(settings, RoundRobin(), random.Random(0).random)
    pool.add_endpoint("a", 0.0)
    pool.add_endpoint("b", 0.0)
    (dispatch,) = pool.submit(request(1), 0.0)
    pool.finished("1", Outcome.FAILED, 0.0)

    during = {pool.submit(request(number), 1.0)[0].endpoint for number in range(2, 6)}
    after = {pool.submit(request(number), 5.0)[0].endpoint for number in range(6, 10)}

    assert dispatch.endpoint not in during
    assert after == {"a", "b"}


def test_a_request_that_waits_too_long_is_refused_at_its_deadline() -> None:
    pool = pool_of("a", settings=PoolSettings(max_in_flight_per_endpoint=1, max_wait_seconds=5.0))
    pool.submit(request(1), 0.0)
    pool.submit(request(2, deadline=3.0), 0.0)
    pool.submit(request(3), 0.0)

    assert pool.next_deadline() == 3.0
    assert [action.request.request_id for action in pool.expire(3.0)] == ["2"]
    assert pool.next_deadline() == 5.0


def test_a_policy_that_chooses_a_stranger_is_told_whom_it_could_have_chosen() -> None:
    class Confused(LeastInFlight):
        def route(self, *_: object) -> Decision:
            return Decision("nobody", "why not")

    pool = Pool(PoolSettings(), Confused(), random.Random(0).random)
    pool.add_endpoint("a", 0.0)

    with pytest.raises(ValueError, match=r"chose 'nobody'; expected one of \['a'\]"):
        pool.submit(request(1), 0.0)
