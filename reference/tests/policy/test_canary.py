"""Canary weights: shares that are met to the request, sessions that stay, and a canary that cannot take its share."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from reference.policy.canary import VersionSplit
from reference.policy.pool import Dispatch, Outcome, Pool, PoolSettings
from reference.policy.routing.load import LeastInFlight
from reference.policy.view import RequestView

weights = st.floats(0.01, 100.0)


def no_chance() -> float:
    raise AssertionError("nothing is drawn")


def request(number: int, session: str | None = None) -> RequestView:
    return RequestView(str(number), "model", 0.0, 10, session=session)


def pool_of(old: float, new: float, **settings) -> Pool:
    pool = Pool(PoolSettings(**settings), LeastInFlight(), no_chance)
    for name, weight, version in (("old-0", old, "1"), ("old-1", old, "1"), ("new-0", new, "2")):
        pool.add_endpoint(name, 0.0, weight, version)
    return pool


@given(split=st.lists(weights, min_size=2, max_size=5), count=st.integers(1, 400))
def test_after_every_request_each_version_has_had_its_share(split: list[float], count: int) -> None:
    versions = [(str(place), weight) for place, weight in enumerate(split)]
    turns, had = VersionSplit(), Counter()
    for number in range(1, count + 1):
        had[turns.choose(versions, None)] += 1
        for version, weight in versions:
            assert abs(had[version] - number * weight / sum(split)) <= len(split) - 1 + 1e-6


def test_of_a_thousand_requests_a_canary_of_one_to_nine_gets_a_hundred() -> None:
    pool = pool_of(9.0, 1.0)
    for number in range(1000):
        pool.submit(request(number), 0.0)

    assert {e.name: e.in_flight for e in pool.endpoints} == {"new-0": 100, "old-0": 450, "old-1": 450}


@given(old=weights, new=weights, names=st.lists(st.text(max_size=8), max_size=30))
def test_a_session_stays_with_its_version(old: float, new: float, names: list[str]) -> None:
    pool, other_router = pool_of(old, new), pool_of(old, new)
    home: dict[str, str] = {}
    for number, session in enumerate([*names, *names]):
        for each in (pool, other_router):
            (dispatch,) = each.submit(request(number, session), 0.0)
            assert home.setdefault(session, dispatch.endpoint[:3]) == dispatch.endpoint[:3]
            each.submit(request(10_000 + number), 0.0)


@given(old=weights, new=weights, growth=st.floats(1.0, 10.0), session=st.text(max_size=8))
def test_a_canary_that_grows_takes_sessions_and_loses_none(old: float, new: float, growth: float, session: str) -> None:
    before = VersionSplit().choose([("1", old), ("2", new)], session)
    after = VersionSplit().choose([("1", old), ("2", new * growth)], session)

    assert (before, after) != ("2", "1")


def test_sessions_are_split_by_weight() -> None:
    split = VersionSplit()
    chosen = Counter(split.choose([("1", 9.0), ("2", 1.0)], f"session-{number}") for number in range(4000))

    # five standard deviations of a binomial of 4,000 and a tenth
    assert abs(chosen["2"] - 400) < 5 * (4000 * 0.1 * 0.9) ** 0.5


def test_a_canary_that_is_full_leaves_its_share_and_does_not_ask_for_it_afterwards() -> None:
    pool = pool_of(1.0, 1.0, max_in_flight_per_endpoint=50)
    for number in range(100):
        pool.submit(request(number), 0.0)
    dispatched = [pool.submit(request(number), 0.0) for number in range(100, 140)]
    assert {actions[0].endpoint[:3] for actions in dispatched} == {"old"}

    for number in range(140):
        pool.finished(str(number), Outcome.OK, 1.0)
    after = Counter(pool.submit(request(number), 1.0)[0].endpoint[:3] for number in range(200, 220))

    assert after == {"old": 10, "new": 10}


def test_a_version_of_no_weight_gets_only_what_no_other_can_take() -> None:
    pool = pool_of(1.0, 0.0)
    for number in range(20):
        (dispatch,) = pool.submit(request(number, f"s{number}" if number % 2 else None), 0.0)
        assert dispatch.endpoint[:3] == "old"
    for name in ("old-0", "old-1"):
        pool.drain(name, 0.0)

    (dispatch,) = pool.submit(request(100), 0.0)
    assert isinstance(dispatch, Dispatch)
    assert dispatch.endpoint == "new-0"


def test_a_session_whose_version_is_gone_moves_and_comes_back() -> None:
    pool = pool_of(1.0, 1.0)
    session = next(s for s in map(str, range(99)) if VersionSplit().choose([("1", 1.0), ("2", 1.0)], s) == "2")
    pool.drain("new-0", 0.0)
    (away,) = pool.submit(request(1, session), 0.0)
    pool.add_endpoint("new-0", 0.0, 1.0, "2")
    (back,) = pool.submit(request(2, session), 0.0)

    assert (away.endpoint[:3], back.endpoint) == ("old", "new-0")


def test_versions_that_are_gone_are_forgotten() -> None:
    pool = pool_of(9.0, 1.0)
    for number in range(50):
        pool.add_endpoint("new-0", 0.0, 1.0, f"2.{number}")
        pool.submit(request(number), 0.0)

    assert len(pool._roster._split._owed) <= 2
