"""Fairness between tenants: a greedy one delays the others by a bound, nobody's order changes, and nothing idles."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.policy.pool import Outcome, Pool, PoolSettings, Refuse
from reference.policy.queue import PoolQueue, declared_tokens
from reference.policy.routing.load import LeastInFlight
from reference.policy.view import RequestView

TENANTS = ("red", "blue", "grey")
WEIGHTS = {"red": 1.0, "blue": 3.0, "grey": 0.5}

moves = st.lists(
    st.tuples(st.sampled_from(TENANTS), st.integers(1, 5000), st.integers(0, 3000)) | st.none(), min_size=1, max_size=60
)
"""A request of a tenant with its input and output tokens that begins to wait; None: an endpoint takes the next one."""


def request(number: int, tenant: str, tokens: int = 10, output: int | None = None, priority: int = 0) -> RequestView:
    return RequestView(
        str(number), "model", float(number), tokens, max_output_tokens=output, tenant=tenant, priority=priority
    )


@given(moves=moves)
def test_two_tenants_that_both_wait_get_by_their_weights_what_differs_by_one_request_of_each(moves: list) -> None:
    queue = PoolQueue("tokens", WEIGHTS)
    waiting = dict.fromkeys(TENANTS, 0)
    largest = dict.fromkeys(TENANTS, 0)
    had = dict.fromkeys(TENANTS, 0.0)
    since: dict[tuple[str, str], list[float]] = {}
    """Of each pair that both wait: the differences of what they had, at each moment since both have waited."""
    for number, move in enumerate([*moves, *[None] * len(moves)]):
        if move is not None:
            view = request(number, *move)
            queue.push(view)
            waiting[view.tenant] += 1
            largest[view.tenant] = max(largest[view.tenant], declared_tokens(view))
        elif queue:
            view = queue.pop({})
            waiting[view.tenant] -= 1
            had[view.tenant] += declared_tokens(view) / WEIGHTS[view.tenant]
        for one, other in combinations(TENANTS, 2):
            if not (waiting[one] and waiting[other]):
                since.pop((one, other), None)
                continue
            differences = since.setdefault((one, other), [])
            differences.append(had[one] - had[other])
            bound = largest[one] / WEIGHTS[one] + largest[other] / WEIGHTS[other]
            assert max(differences) - min(differences) <= bound * (1 + 1e-9)


@given(split=st.lists(st.integers(1, 6), min_size=2, max_size=4), tokens=st.integers(1, 5000))
def test_over_a_long_time_tenants_get_by_their_weights(split: list[int], tokens: int) -> None:
    names = [str(place) for place in range(len(split))]
    queue = PoolQueue("tokens", dict(zip(names, map(float, split), strict=True)))
    for number in range(200 * len(names)):
        queue.push(request(number, names[number % len(names)], tokens))

    had = Counter(queue.pop({}).tenant for _ in range(120))

    for name, weight in zip(names, split, strict=True):
        assert abs(had[name] - 120 * weight / sum(split)) <= len(split)


def test_who_leaves_the_queue_for_a_moment_takes_its_debt_along() -> None:
    queue = PoolQueue("tokens")
    for number in range(100):
        queue.push(request(number, "blue", 100))
    queue.push(request(1000, "red", 1000))
    had = Counter()
    for number in range(1001, 1034):
        had[tenant := queue.pop({}).tenant] += 1
        if tenant == "red":
            queue.push(request(number, "red", 1000))

    assert had == {"red": 3, "blue": 30}


def test_nothing_is_remembered_of_tenants_when_nobody_waits() -> None:
    queue = PoolQueue("tokens")
    for number in range(50):
        queue.push(request(number, f"tenant-{number}", priority=number))
    while queue:
        queue.pop({})

    assert not queue._shares


@given(moves=moves)
def test_whoever_begins_to_wait_lets_one_request_of_each_other_tenant_go_first_and_no_more(moves: list) -> None:
    queue = PoolQueue("tokens", WEIGHTS)
    for number, move in enumerate(moves):
        if move is not None:
            queue.push(request(number, *move))
        elif queue:
            queue.pop({})
    queue.push(request(1000, "late", 4000))

    before = []
    while (view := queue.pop({})).tenant != "late":
        before.append(view.tenant)

    assert len(before) == len(set(before))


@given(
    moves=moves,
    fairness=st.sampled_from(["in_flight", "tokens", "none"]),
    gone=st.sets(st.integers(0, 59), max_size=20),
)
def test_a_tenants_own_requests_keep_their_order_and_everybody_is_served(moves: list, fairness, gone: set) -> None:
    queue = PoolQueue(fairness)
    waiting: list[RequestView] = []
    for number, move in enumerate([*moves, *[None] * len(moves)]):
        if move is not None:
            waiting.append(request(number, *move))
            queue.push(waiting[-1])
        elif waiting:
            assert len(queue) == len(waiting)
            view = queue.pop({"red": 2})
            assert view == next(one for one in waiting if one.tenant == view.tenant)
            waiting.remove(view)
        if number in gone and waiting:
            assert queue.remove(waiting[0].request_id) == waiting.pop(0)
    assert not queue
    assert not waiting


def test_without_fairness_requests_leave_as_they_came() -> None:
    queue = PoolQueue("none")
    for number, tenant in enumerate(["red", "red", "blue", "red", "blue"]):
        queue.push(request(number, tenant))

    assert [queue.pop({"red": 9}).request_id for _ in range(5)] == ["0", "1", "2", "3", "4"]


def test_priorities_come_before_shares() -> None:
    queue = PoolQueue("tokens")
    for number in range(3):
        queue.push(request(number, "red", 1000, priority=1))
    queue.push(request(3, "blue", 1))

    assert [queue.pop({}).request_id for _ in range(4)] == ["0", "1", "2", "3"]


def test_a_tenant_that_was_away_claims_nothing_for_it() -> None:
    queue = PoolQueue("tokens")
    for number in range(40):
        queue.push(request(number, "red", 100))
    for _ in range(30):
        queue.pop({})
    for number in range(40, 50):
        queue.push(request(number, "blue", 100))

    order = [queue.pop({}).tenant for _ in range(10)]

    assert order.count("blue") == 5


@given(
    max_queued=st.integers(1, 12),
    arrivals=st.lists(st.sampled_from(["greedy", "greedy", "greedy", "red", "blue"]), max_size=60),
)
def test_who_holds_no_more_than_its_part_of_a_full_queue_is_never_refused(max_queued: int, arrivals: list[str]) -> None:
    pool = pool_of(fairness="tokens", max_queued=max_queued)
    pool.submit(request(1000, "first"), 0.0)
    waiting: dict[str, list[str]] = {"greedy": [], "red": [], "blue": []}
    for number, tenant in enumerate(arrivals):
        waiting[tenant].append(str(number))
        for action in pool.submit(request(number, tenant), 0.0):
            assert isinstance(action, Refuse)
            assert action.rejected.status == 429
            assert action.rejected.retry_after_seconds >= 1
            refused = action.request
            assert len(waiting[refused.tenant]) > max_queued / len(waiting)
            assert waiting[refused.tenant].pop() == refused.request_id, "a tenant's last come goes first"
        assert pool.num_queued == sum(map(len, waiting.values())) <= max_queued


@pytest.mark.parametrize(("fairness", "share"), [("none", 0.0), ("tokens", 0.5)])
def test_a_greedy_tenant_that_came_first_takes_its_share_and_no_more(fairness, share: float) -> None:
    pool = pool_of(fairness=fairness, max_queued=1000)
    pool.submit(request(0, "greedy", 8000), 0.0)
    for number in range(1, 101):
        pool.submit(request(number, "greedy", 8000), 0.0)
    for number in range(101, 1000):
        pool.submit(request(number, "polite", 80), 0.0)

    tokens = {"greedy": 0, "polite": 0}
    under_way = "0"
    for _ in range(100):
        (dispatch,) = pool.finished(under_way, Outcome.OK, 1.0)
        under_way = dispatch.request.request_id
        tokens[dispatch.request.tenant] += dispatch.request.input_tokens

    assert abs(tokens["polite"] / sum(tokens.values()) - share) < 0.35 * share + 1e-9


def pool_of(**settings) -> Pool:
    pool = Pool(PoolSettings(max_in_flight_per_endpoint=1, **settings), LeastInFlight(), random.Random(0).random)
    pool.add_endpoint("a", 0.0)
    return pool
