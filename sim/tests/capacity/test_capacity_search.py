"""The search against brute force, and the bounds it decides by."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from sim.capacity.decide import ClassCounts, Finding, design_effect, judge, wilson
from sim.capacity.search import Candidate, Option, Probe, Search


@given(total=st.integers(1, 5000), share=st.floats(0, 1))
def test_wilsons_interval_holds_the_share_and_shrinks_with_evidence(total: int, share: float) -> None:
    good = round(share * total)
    low, high = wilson(good, total)
    tighter_low, tighter_high = wilson(10 * good, 10 * total)

    assert 0 <= low <= good / total <= high <= 1
    assert tighter_high - tighter_low < high - low


def test_wilsons_interval_covers_the_truth_nineteen_times_in_twenty() -> None:
    stream = random.Random(5)
    truth, covered = 0.93, 0
    for _ in range(2000):
        good = sum(stream.random() < truth for _ in range(300))
        low, high = wilson(good, 300)
        covered += low <= truth <= high

    assert 0.93 <= covered / 2000 <= 0.975


def test_requests_that_fail_together_count_for_less() -> None:
    together = [(0, 50), *[(50, 50)] * 19]
    apart = [(47, 50), (48, 50)] * 10

    assert design_effect(together) > 20
    assert design_effect(apart) == 1.0


def test_a_clear_share_is_decided_and_a_close_one_is_left_open() -> None:
    def counts(good: int, total: int) -> ClassCounts:
        return ClassCounts("chat", 0.95, ((good, total),))

    assert judge([counts(990, 1000)]) is Finding.MEETS
    assert judge([counts(900, 1000)]) is Finding.FAILS
    assert judge([counts(95, 100)]) is Finding.OPEN
    assert judge([counts(0, 0)]) is Finding.MEETS


@st.composite
def spaces(draw: st.DrawFn) -> tuple[list[Option], dict[Option, int]]:
    """Options, and how many replicas each truly needs."""
    options, needs = [], {}
    for position in range(draw(st.integers(1, 5))):
        first = draw(st.integers(1, 4))
        option = Option(
            (("gpu", f"gpu-{position}"),),
            draw(st.sampled_from([1.0, 1.7, 2.0, 3.3])),
            first,
            first + draw(st.integers(0, 20)),
        )
        options.append(option)
        needs[option] = draw(st.integers(1, 26))
    return options, needs


@settings(max_examples=300, deadline=None)
@given(space=spaces())
def test_the_search_finds_what_brute_force_finds(space: tuple[list[Option], dict[Option, int]]) -> None:
    options, needs = space

    def fly(candidate: Candidate, seed: int) -> Probe:
        good = 1000 if candidate.replicas >= needs[candidate.option] else 500
        return Probe(seed, (ClassCounts("chat", 0.95, ((good, 1000),)),))

    prices = [
        replicas * option.price_per_replica
        for option in options
        for replicas in range(option.min_replicas, option.max_replicas + 1)
        if replicas >= needs[option]
    ]
    found = Search(fly, seeds=[1, 2], fresh_seeds=[3]).run(options)

    assert (found.candidate.price if found else None) == (min(prices) if prices else None)


def test_an_answer_that_fails_on_fresh_seeds_gives_way_to_more_replicas() -> None:
    def fly(candidate: Candidate, seed: int) -> Probe:
        lucky = seed == 1
        good = 1000 if candidate.replicas >= (3 if lucky else 5) else 500
        return Probe(seed, (ClassCounts("chat", 0.95, ((good, 1000),)),))

    found = Search(fly, seeds=[1], fresh_seeds=[2]).run([Option((), 1.0, 1, 8)])

    assert found is not None
    assert found.candidate.replicas == 5


def test_an_option_that_cannot_be_cheaper_is_not_flown() -> None:
    def fly(candidate: Candidate, seed: int) -> Probe:
        return Probe(seed, (ClassCounts("chat", 0.95, ((1000, 1000),)),))

    search = Search(fly, seeds=[1])
    search.run([Option((("gpu", "cheap"),), 1.0, 2, 4), Option((("gpu", "dear"),), 9.0, 1, 4)])

    assert [skipped.option.settings for skipped in search.skipped] == [(("gpu", "dear"),)]
