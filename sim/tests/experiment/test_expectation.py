"""Expectations: what is said is what is compared, and nonsense is answered with the nearest sense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.experiment.expectation import COMPARISONS, LATENCY_MEASURES, PLAIN_MEASURES, NotAnExpectation, parse


@given(
    st.from_regex(r"[a-z][\w-]{0,8}", fullmatch=True).filter(str.isascii),
    st.sampled_from(PLAIN_MEASURES),
    st.sampled_from(sorted(COMPARISONS)),
    st.floats(0, 1, allow_nan=False),
    st.one_of(st.none(), st.floats(-1, 2)),
)
def test_an_expectation_holds_exactly_when_its_comparison_does(
    subject: str, measure: str, comparison: str, threshold: float, value: float | None
) -> None:
    found = parse(f"{subject}.{measure} {comparison} {threshold!r}")

    assert (found.subject, found.measure, found.threshold) == (subject, measure, threshold)
    assert found.holds(value) == (value is not None and COMPARISONS[comparison](value, threshold))


@given(st.sampled_from(LATENCY_MEASURES), st.integers(1, 99), st.integers(1, 5000))
def test_a_latency_is_compared_in_seconds_at_its_percentile(latency: str, percentile: int, milliseconds: int) -> None:
    found = parse(f"all.{latency}_p{percentile} <= {milliseconds}ms")

    assert found.percentile == (latency, percentile)
    assert found.threshold == pytest.approx(milliseconds / 1000)


def test_rates_may_carry_their_unit() -> None:
    assert parse("all.goodput > 240/min").threshold == 4.0
    assert parse("all.goodput > 4").threshold == 4.0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("chat.slo_attainmant >= 0.9", "there is no measure 'slo_attainmant' (did you mean 'slo_attainment'?)"),
        ("all.ttft_p0 < 1s", "there is no measure 'ttft_p0' (did you mean 'ttft_p90'?)"),
        ("all.ttft_p95 <= 800", "ttft_p95 is compared with '800'; expected a duration such as 800ms"),
        ("all.error_rate < 1s", "error_rate is compared with '1s'; expected a number such as 0.95"),
        ("all.goodput > nan", "goodput is compared with 'nan'; expected a number such as 0.95"),
        (
            "all.slo_attainment >= 95",
            "slo_attainment is a share and is compared with 95; expected 0 to 1, such as 0.95",
        ),
        ("slo_attainment >= 0.95", "expected a sentence such as `chat.slo_attainment >= 0.95`"),
        ("all.slo_attainment == 0.95", "expected a sentence such as"),
    ],
)
def test_what_is_no_expectation_is_refused_with_what_would_be_one(text: str, problem: str) -> None:
    with pytest.raises(NotAnExpectation) as refused:
        parse(text)

    assert problem in str(refused.value)
