"""Routing policies: what holds for all of them, and what each one is for."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.policy.routing.prefix import PrefixAware
from reference.policy.routing.prefix_index import PrefixIndex
from reference.policy.routing.registry import ROUTING_POLICIES, UnknownPolicy, build_routing
from reference.policy.view import Endpoint, Observation, RequestView

observations = st.builds(
    Observation, st.floats(0, 9), st.integers(0, 50), st.integers(0, 50), st.floats(0, 1, allow_nan=False)
)


@st.composite
def clusters(draw: st.DrawFn) -> list[Endpoint]:
    count = draw(st.integers(1, 6))
    return [Endpoint(f"r-{n}", in_flight=draw(st.integers(0, 30)), observed=draw(observations)) for n in range(count)]


requests = st.builds(
    RequestView,
    request_id=st.just("1"),
    model=st.just("m"),
    arrived_at=st.just(0.0),
    input_tokens=st.integers(1, 1000),
    block_hashes=st.lists(st.integers(0, 5), max_size=12).map(tuple),
    session=st.sampled_from([None, "one", "two"]),
)
names = st.sampled_from(sorted(ROUTING_POLICIES))


@settings(max_examples=200)
@given(name=names, stream=st.lists(requests, min_size=1, max_size=8), endpoints=clusters(), seed=st.integers(0, 99))
def test_every_policy_chooses_one_it_was_given_explains_it_and_leaves_it_alone(
    name: str, stream: list[RequestView], endpoints: list[Endpoint], seed: int
) -> None:
    plain, explained = build_routing(name), build_routing(name, explain=True)
    before = [dataclasses.replace(endpoint) for endpoint in endpoints]
    for request in stream:
        decision = plain.route(request, endpoints, 1.0, random.Random(seed).random)
        again = explained.route(request, endpoints, 1.0, random.Random(seed).random)
        for policy in (plain, explained):
            if hasattr(policy, "dispatched"):
                policy.dispatched(request, decision.endpoint, 1.0)

        assert decision.endpoint in {endpoint.name for endpoint in endpoints}
        assert (again.endpoint, again.reason) == (decision.endpoint, decision.reason)
        assert again.scores
        assert all(0 <= score <= 1 for _, score in again.scores)
    assert endpoints == before


def test_no_policy_can_read_how_long_an_answer_will_be() -> None:
    """I7, by type."""
    fields = {*RequestView._fields, *(field.name for field in dataclasses.fields(Endpoint))}

    assert not [name for name in fields if "output" in name and name != "max_output_tokens"]


def test_round_robin_takes_each_in_turn_also_when_one_goes() -> None:
    policy, request = build_routing("round_robin"), RequestView("1", "m", 0.0, 1)
    three = [Endpoint("a"), Endpoint("b"), Endpoint("c")]

    chosen = [policy.route(request, three, 0.0, random.random).endpoint for _ in range(4)]
    chosen += [policy.route(request, three[::2], 0.0, random.random).endpoint for _ in range(3)]

    assert chosen == ["a", "b", "c", "a", "c", "a", "c"]


@pytest.mark.parametrize(
    ("name", "best"),
    [("least_in_flight", "b"), ("least_kv_usage", "c"), ("session_affinity", None), ("power_of_two", None)],
)
def test_each_policy_looks_at_what_it_says(name: str, best: str | None) -> None:
    endpoints = [
        Endpoint("a", in_flight=5, observed=Observation(0, kv_usage=0.5)),
        Endpoint("b", in_flight=1, observed=Observation(0, kv_usage=0.9)),
        Endpoint("c", in_flight=9, observed=Observation(0, kv_usage=0.1)),
    ]
    policy = build_routing(name)
    chosen = {
        policy.route(RequestView("1", "m", 0.0, 1, session="one"), endpoints, 0.0, random.Random(seed).random).endpoint
        for seed in range(50)
    }

    if best:
        assert chosen == {best}
    elif name == "session_affinity":
        assert len(chosen) == 1
    else:
        assert chosen == {"a", "b"}, "of two drawn the most loaded of all never wins"


def test_a_session_moves_only_when_its_endpoint_goes() -> None:
    policy = build_routing("session_affinity")
    four = [Endpoint(f"r-{n}") for n in range(4)]
    homes = {
        s: policy.route(RequestView("1", "m", 0.0, 1, session=s), four, 0.0, random.random).endpoint
        for s in map(str, range(200))
    }
    left = {
        s: policy.route(RequestView("1", "m", 0.0, 1, session=s), four[:3], 0.0, random.random).endpoint for s in homes
    }

    assert {s for s in homes if homes[s] != left[s]} == {s for s in homes if homes[s] == "r-3"}
    assert len(set(homes.values())) == 4


def test_a_prompt_goes_where_its_prefix_is_unless_that_is_overloaded() -> None:
    policy = PrefixAware(stride=1)
    prompt = RequestView("1", "m", 0.0, 64, block_hashes=(1, 2, 3, 4))
    idle = [Endpoint("a"), Endpoint("b")]
    policy.dispatched(prompt, "b", 0.0)
    hot = [Endpoint("a"), Endpoint("b", in_flight=40)]

    assert policy.route(prompt, idle, 0.0, random.random).endpoint == "b"
    assert policy.route(prompt, hot, 0.0, random.random).endpoint == "a"


class NaiveIndex:
    """Remembers every block of every prompt, for ever."""

    def __init__(self) -> None:
        self.held: dict[str, set[int]] = {}

    def record(self, hashes: list[int], endpoint: str) -> None:
        self.held.setdefault(endpoint, set()).update(hashes)

    def matches(self, hashes: list[int]) -> dict[str, int]:
        depths = {}
        for endpoint, held in self.held.items():
            depth = next((n for n, block in enumerate(hashes) if block not in held), len(hashes))
            if depth:
                depths[endpoint] = depth
        return depths


chains = st.lists(st.integers(0, 3), min_size=1, max_size=6).map(
    lambda path: [hash(tuple(path[: n + 1])) for n in range(len(path))]
)


@given(told=st.lists(st.tuples(chains, st.sampled_from("abc")), max_size=20), asked=chains, gone=st.sampled_from("abc"))
def test_the_prefix_index_agrees_with_one_that_forgets_nothing(
    told: list[tuple[list[int], str]], asked: list[int], gone: str
) -> None:
    index, naive = PrefixIndex(10_000, 1), NaiveIndex()
    for hashes, endpoint in told:
        index.record(hashes, endpoint)
        naive.record(hashes, endpoint)

    assert index.matches(asked) == naive.matches(asked)
    index.forget(gone)
    naive.held.pop(gone, None)
    assert index.matches(asked) == naive.matches(asked)


def test_the_prefix_index_stays_within_its_bound() -> None:
    index = PrefixIndex(100, 1)
    for start in range(0, 10_000, 10):
        index.record(range(start, start + 10), "a")

    assert len(index._holders) <= 100
    assert index.matches(range(9_990, 10_000)) == {"a": 10}


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("least_inflight", {}, "did you mean 'least_in_flight'"),
        ("prefix_aware", {"load_faktor": 2}, "did you mean 'load_factor'"),
        ("least_kv_usage", {"step": 7}, "expected a fraction"),
    ],
)
def test_a_wrong_name_or_option_is_told_with_the_nearest(name: str, options: dict[str, object], expected: str) -> None:
    with pytest.raises(UnknownPolicy, match=expected):
        build_routing(name, options)
