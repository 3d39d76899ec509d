"""The queue of a pool against one that looks at everybody each time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reference.policy.queue import PoolQueue
from reference.policy.retry import RetryBudget
from reference.policy.view import RequestView

arrivals = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["red", "blue", "grey"])), max_size=12)


def request(number: int, priority: int, tenant: str) -> RequestView:
    return RequestView(str(number), "model", float(number), 10, priority=priority, tenant=tenant)


@given(
    arrivals=arrivals, gone=st.sets(st.integers(0, 11)), in_flight=st.lists(st.integers(0, 3), min_size=3, max_size=3)
)
def test_requests_leave_by_priority_then_by_their_tenants_share_then_as_they_came(
    arrivals: list[tuple[int, str]], gone: set[int], in_flight: list[int]
) -> None:
    in_flight_of = dict(zip(["red", "blue", "grey"], in_flight, strict=True))
    queue, waiting = PoolQueue(), []
    for number, (priority, tenant) in enumerate(arrivals):
        waiting.append(request(number, priority, tenant))
        queue.push(waiting[-1])
    for number in gone:
        assert (queue.remove(str(number)) is None) == (number >= len(arrivals))
    waiting = [one for one in waiting if int(one.request_id) not in gone]

    while waiting:
        assert len(queue) == len(waiting)
        least = queue.least_important()
        assert least.priority == min(one.priority for one in waiting)
        assert least == [one for one in waiting if (one.priority, one.tenant) == (least.priority, least.tenant)][-1]
        expected = min(waiting, key=lambda one: (-one.priority, in_flight_of[one.tenant], one.arrived_at))
        assert queue.pop(in_flight_of) == expected
        in_flight_of[expected.tenant] += 1
        waiting.remove(expected)
    assert not queue


def test_who_waits_again_stands_before_its_equals_only() -> None:
    queue = PoolQueue()
    for number in range(2):
        queue.push(request(number, 0, "red"))
    queue.push(request(2, 1, "red"))
    queue.push(request(3, 0, "red"), first=True)

    assert [queue.pop({}).request_id for _ in range(4)] == ["2", "3", "0", "1"]


@given(
    zero=st.integers(-1000, 10**6),
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(0, 5)), max_size=20),
    rate=st.integers(0, 3),
)
def test_a_retry_budget_keeps_its_bound_wherever_the_clock_begins(
    zero: int, steps: list[tuple[int, int, int]], rate: int
) -> None:
    here, there, now, granted = RetryBudget(0.125, rate), RetryBudget(0.125, rate), 0, 0
    requests = 0
    for seconds, deposits, retries in steps:
        now, requests = now + seconds, requests + deposits
        for _ in range(deposits):
            here.deposit()
            there.deposit()
        answers = [(here.withdraw(now), there.withdraw(zero + now)) for _ in range(retries)]
        assert all(left == right for left, right in answers)
        granted += sum(left for left, _ in answers)
        assert granted <= requests * 0.125 + (max(1, rate) + rate * now if rate else 0)
