"""Distributions: within their bounds, with the percentiles and moments asked for, and the same for a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sim.experiment.lengths import draw, draw_counts
from sim.experiment.schema import Distribution, Times
from sim.experiment.streams import stream

kinds: dict[str, dict[str, Any]] = {
    "constant": {"mean": 700},
    "uniform": {"min": 300, "max": 900},
    "normal": {"mean": 600, "stddev": 100},
    "lognormal": {"p50": 500, "p95": 2000},
    "exponential": {"mean": 500},
    "empirical": {"values": (100, 400, 900), "weights": (1.0, 2.0, 1.0)},
}


@settings(max_examples=60)
@given(st.sampled_from(sorted(kinds)), st.integers(1, 500), st.integers(500, 5000), st.integers(0, 99))
def test_every_count_is_whole_positive_and_within_its_bounds(kind: str, low: int, high: int, seed: int) -> None:
    bounds = {} if kind == "uniform" else {"min": low, "max": high}
    distribution = Distribution(kind=kind, **kinds[kind] | bounds)

    counts = draw_counts(distribution, 300, stream(seed, "x"))

    assert counts.dtype == np.int64
    assert counts.min() >= max(1, distribution.min or 0)
    assert counts.max() <= (distribution.max or np.inf)


@pytest.mark.parametrize("kind", sorted(kinds))
def test_a_seed_gives_the_same_values_and_another_name_gives_others(kind: str) -> None:
    distribution = Distribution(kind=kind, **kinds[kind])

    assert np.array_equal(draw(distribution, 50, stream(1, "a")), draw(distribution, 50, stream(1, "a")))
    if kind != "constant":
        assert not np.array_equal(draw(distribution, 50, stream(1, "a")), draw(distribution, 50, stream(1, "b")))


def test_a_lognormal_has_the_percentiles_it_was_given() -> None:
    values = draw(Distribution(kind="lognormal", p50=600, p95=2400), 100_000, stream(3, "x"))

    assert np.percentile(values, 50) == pytest.approx(600, rel=0.02)
    assert np.percentile(values, 95) == pytest.approx(2400, rel=0.02)


def test_a_lognormal_by_mean_and_deviation_has_both() -> None:
    values = draw(Distribution(kind="lognormal", mean=500, stddev=400), 200_000, stream(3, "x"))

    assert values.mean() == pytest.approx(500, rel=0.01)
    assert values.std() == pytest.approx(400, rel=0.03)


def test_an_empirical_distribution_draws_by_weight() -> None:
    values = draw(Distribution(kind="empirical", values=(1, 2), weights=(3.0, 1.0)), 40_000, stream(3, "x"))

    assert (values == 1).mean() == pytest.approx(0.75, abs=0.01)


def test_a_bare_number_is_constant_and_times_carry_their_unit() -> None:
    assert Distribution.model_validate(70) == Distribution(kind="constant", mean=70)
    assert Times.model_validate("1.5s") == Times(kind="constant", mean=1.5)
    with pytest.raises(ValidationError, match="expected a duration with its unit"):
        Times.model_validate(5)
    with pytest.raises(ValidationError, match="valid number"):
        Distribution.model_validate("5s")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"kind": "lognormal", "p50": 5}, "a lognormal distribution needs p50 and p95, or mean and stddev; given: p50"),
        ({"kind": "normal", "mean": 5, "stddev": 1, "p95": 9}, "a normal distribution needs mean and stddev; given"),
        ({"kind": "lognormal", "p50": 9, "p95": 5}, "p50 9 is above p95 5"),
        ({"kind": "lognormal", "p50": 0, "p95": 5}, "a lognormal distribution lies above 0"),
        ({"kind": "uniform", "min": 9, "max": 5}, "min 9 is above max 5"),
        ({"kind": "empirical", "values": (1, 2), "weights": (1.0,)}, "1 weights for 2 values"),
        ({"kind": "constant", "mean": -1}, "greater than or equal to 0"),
    ],
)
def test_a_distribution_that_cannot_be_drawn_is_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Distribution(**fields)

    assert problem in str(refused.value)
