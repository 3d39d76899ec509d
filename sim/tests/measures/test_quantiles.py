"""Quantiles: the interval covers, and a sample that does not support a quantile gives none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sim.experiment.quantiles import min_sample, quantile, quantiles, ranks, significant, weighted_quantiles, wilson

samples = st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=400)


@pytest.mark.parametrize(("q", "least"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368), (0.01, 368), (0.999, 3688)])
def test_a_quantile_needs_as_many_values_as_its_interval_does(q: float, least: int) -> None:
    assert min_sample(q) == least
    assert quantiles(np.arange(least - 1.0), [q * 100])[0].value is None
    assert quantiles(np.arange(float(least)), [q * 100])[0].value is not None


@settings(max_examples=100, deadline=None)
@given(q=st.floats(0.01, 0.99), count=st.integers(1, 3000))
def test_the_ranks_are_those_of_the_exact_binomial(q: float, count: int) -> None:
    low, high = ranks(q, count)

    assert stats.binom.cdf(high - 1, count, q) - stats.binom.cdf(low - 1, count, q) >= 0.95 - 1e-9
    assert stats.binom.cdf(low, count, q) >= 0.025 - 1e-9
    assert high == 1 or stats.binom.cdf(high - 2, count, q) <= 0.975 + 1e-9


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_the_interval_covers_the_true_quantile_as_often_as_it_says(q: float) -> None:
    chance = np.random.default_rng(3)
    true = stats.lognorm(0.8).ppf(q)
    covered = 0
    for _ in range(1000):
        [found] = quantiles(chance.lognormal(0, 0.8, 500), [q * 100])
        covered += found.low <= true <= found.high

    # three standard errors of a share of 1000 at 0.95
    assert covered >= 1000 * 0.95 - 3 * (1000 * 0.95 * 0.05) ** 0.5


@given(values=samples, q=st.floats(0.01, 0.99))
def test_a_quantile_is_a_value_with_at_least_that_share_at_or_below(values: list[float], q: float) -> None:
    found = quantile(np.asarray(values), q)

    assert found in values
    assert sum(value <= found for value in values) >= q * len(values) - 1e-6
    assert sum(value < found for value in values) < q * len(values) + 1e-6


@given(values=samples, counts=st.data())
def test_counting_a_value_n_times_is_giving_it_n_times(values: list[float], counts: st.DataObject) -> None:
    weights = counts.draw(st.lists(st.integers(1, 5), min_size=len(values), max_size=len(values)))
    repeated = np.repeat(values, weights)

    weighted = weighted_quantiles(np.asarray(values), np.asarray(weights, dtype=float), [50, 95])

    assert [one.value for one in weighted] == [one.value for one in quantiles(repeated, [50, 95])]


@given(values=samples)
def test_an_interval_holds_its_quantile_and_quantiles_rise(values: list[float]) -> None:
    found = [one for one in quantiles(np.asarray(values), [50, 90, 95, 99]) if one.value is not None]

    assert all(one.low <= one.value <= one.high for one in found)
    assert [one.value for one in found] == sorted(one.value for one in found)


def test_what_is_not_a_number_is_no_value() -> None:
    assert quantiles(np.asarray([np.nan] * 100), [50])[0].num_values == 0
    assert quantile(np.asarray([np.nan, 2.0]), 0.5) == 2.0


@given(trials=st.integers(1, 5000), data=st.data())
def test_wilsons_interval_holds_the_share_and_narrows_with_more_trials(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))

    low, high = wilson(successes, trials)
    more_low, more_high = wilson(successes * 4, trials * 4)

    assert 0 <= low <= successes / trials <= high <= 1
    assert more_high - more_low < high - low
    assert wilson(successes, trials, 0.99)[1] >= high


def test_rounding_keeps_significant_digits_and_turns_nan_into_nothing() -> None:
    assert significant(0.000123456789) == 0.000123457
    assert significant(123456789.0, 3) == 123000000.0
    assert significant(float("nan")) is None
