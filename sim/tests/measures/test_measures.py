"""The measures are what DESIGN.md defines; each law here fails when its definition is changed."""

from itertools import pairwise
from math import nan
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.experiment.columns import requests_of
from sim.experiment.measures import Window, inter_token_latency, littles_law, measure, tokens_within, window_of
from sim.experiment.schema import Slo
from sim.experiment.slo import good

EVERYTHING = {"chat": Slo()}


def test_ttft_counts_from_scheduled_and_from_sent(made: SimpleNamespace) -> None:
    requests = requests_of(made.record([{"scheduled": 10.0, "sent": 10.25, "first_token": 11.0}]))

    assert requests.ttft.tolist() == [1.0]
    assert requests.ttft_from_sent.tolist() == [0.75]
    assert requests.send_lag.tolist() == [0.25]


@given(first=st.integers(1, 8), rest=st.integers(0, 500), gap=st.floats(0.001, 1.0))
def test_tpot_is_time_after_the_first_chunk_over_tokens_after_it(
    made: SimpleNamespace, first: int, rest: int, gap: float
) -> None:
    row = {
        "first_token": 1.0,
        "last_token": 1.0 + gap * rest,
        "output_tokens": first + rest,
        "first_chunk_tokens": first,
    }

    [tpot] = requests_of(made.record([row])).tpot.tolist()

    assert np.isnan(tpot) if rest == 0 else tpot == pytest.approx(gap)


def test_an_undefined_tpot_is_never_zero_and_breaks_no_slo(made: SimpleNamespace) -> None:
    requests = requests_of(made.record([{"output_tokens": 1, "first_chunk_tokens": 1}]))

    assert np.isnan(requests.tpot[0])
    assert good(requests, {"chat": Slo(tpot=0.001)}).tolist() == [True]


def test_a_request_without_a_first_token_misses_a_ttft_slo(made: SimpleNamespace) -> None:
    requests = requests_of(made.record([{"first_token": nan, "last_token": nan, "output_tokens": 0}]))

    assert good(requests, {"chat": Slo(ttft=10.0)}).tolist() == [False]


@pytest.mark.parametrize("status", ["refused", "failed", "timed_out", "cancelled"])
def test_whatever_did_not_succeed_is_not_good_and_counts_in_the_denominator(made: SimpleNamespace, status: str) -> None:
    record = made.record([{}, {}, {}, made.lost(status)])

    found = measure(requests_of(record), window_of(record), EVERYTHING, [50])

    assert found.slo_attainment == 0.75
    assert found.goodput == 3 / 4.0
    assert (found.refused_rate, found.error_rate) == ((0.25, 0.0) if status == "refused" else (0.0, 0.25))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), limits=st.tuples(st.floats(0.01, 2), st.floats(0.01, 2)))
def test_attainment_rises_with_the_limit(made: SimpleNamespace, seed: int, limits: tuple[float, float]) -> None:
    record = made.record(made.random_rows(50, seed))
    tight, loose = sorted(limits)

    shares = [
        measure(requests_of(record), window_of(record), {"chat": Slo(**{name: limit})}, [50]).slo_attainment
        for name in ("ttft", "tpot", "e2e")
        for limit in (tight, loose)
    ]

    assert all(shares[at] <= shares[at + 1] for at in (0, 2, 4))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), num_lost=st.integers(0, 30))
def test_a_lost_request_never_improves_anything(made: SimpleNamespace, seed: int, num_lost: int) -> None:
    rows = made.random_rows(60, seed)
    slos = {"chat": Slo(ttft=0.2)}
    before = measure(requests_of(made.record(rows)), Window(0, 60), slos, [50])
    for at in range(num_lost):
        rows[at] |= made.lost("failed")
    after = measure(requests_of(made.record(rows)), Window(0, 60), slos, [50])

    assert after.slo_attainment <= before.slo_attainment
    assert after.goodput <= before.goodput
    assert after.throughput <= before.throughput
    assert after.num_requests == before.num_requests == sum(after.statuses.values())


def test_a_success_that_misses_its_slo_is_throughput_and_no_goodput(made: SimpleNamespace) -> None:
    record = made.record([{}, {"first_token": 9.0, "last_token": 9.5, "ended": 9.5}], duration_seconds=10.0)

    found = measure(requests_of(record), window_of(record), {"chat": Slo(ttft=1.0)}, [50])

    assert (found.throughput, found.goodput, found.slo_attainment) == (0.2, 0.1, 0.5)


def test_only_requests_scheduled_in_the_window_count(made: SimpleNamespace) -> None:
    record = made.record([{} for _ in range(10)], warm_up_seconds=3.0, duration_seconds=8.0)

    found = measure(requests_of(record), window_of(record), EVERYTHING, [50])

    assert found.num_requests == 5
    assert found.latencies["ttft"].num_values == 5


def test_throughput_counts_what_ended_inside_the_window(made: SimpleNamespace) -> None:
    record = made.record([{"ended": 5.0}, {"ended": 15.0}, {"ended": 25.0}], warm_up_seconds=4.0, duration_seconds=14.0)

    assert measure(requests_of(record), window_of(record), EVERYTHING, [50]).throughput == 1 / 10


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.floats(0, 80), max_size=5))
def test_tokens_within_windows_that_tile_time_add_up_to_all_tokens(
    made: SimpleNamespace, seed: int, cuts: list[float]
) -> None:
    requests = requests_of(made.record(made.random_rows(40, seed)))
    edges = [0.0, *sorted(cuts), 1e6]

    total = sum(tokens_within(requests, Window(a, b)).sum() for a, b in pairwise(edges))

    assert total == pytest.approx(requests.output_tokens.sum())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_littles_law_is_exact_when_everything_begins_and_ends_in_the_window(made: SimpleNamespace, seed: int) -> None:
    """I8."""
    record = made.record(made.random_rows(40, seed), duration_seconds=10_000.0)

    found = littles_law(requests_of(record), window_of(record))

    assert found.ratio == pytest.approx(1.0)
    assert found.arrivals_per_second == 40 / 10_000


def test_gaps_are_pooled_by_how_often_they_occurred(made: SimpleNamespace) -> None:
    record = made.record([{}], gaps=[(0.02, 1.0, 900.0), (0.5, 4.0, 100.0)])

    latency, tokens_per_chunk = inter_token_latency(record, [50, 95])

    assert latency.num_values == 1000
    assert [one.value for one in latency.quantiles] == [0.02, 0.5]
    assert latency.mean == pytest.approx(0.068)
    assert tokens_per_chunk == pytest.approx(1.3)


def test_the_cached_share_is_of_the_prompt_tokens_that_were_answered(made: SimpleNamespace) -> None:
    record = made.record([{"cached_tokens": 50}, {}, made.lost("failed") | {"cached_tokens": 100}])

    assert measure(requests_of(record), window_of(record), EVERYTHING, [50]).cached_token_share == 0.25


def test_of_nothing_there_are_no_rates(made: SimpleNamespace) -> None:
    record = made.record([])

    found = measure(requests_of(record), window_of(record), EVERYTHING, [50, 99])

    assert found.slo_attainment is None
    assert found.error_rate is None
    assert found.latencies["ttft"].quantiles[0].value is None
