"""Rate limits against a model with exact fractions, and the laws that a customer and an operator rely on."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from reference.policy.rate_limits import Limit, RateLimits, Reservation
from reference.policy.view import Rejected

events = st.lists(
    st.tuples(st.integers(0, 3_000_000), st.integers(1, 40), st.sampled_from(["settle", "refund", "keep"])),
    min_size=1,
    max_size=40,
)


class ExactBucket:
    """A token bucket in exact fractions."""

    def __init__(self, rate: Fraction, burst: int) -> None:
        self.rate, self.burst, self.level, self.at = rate, Fraction(burst), Fraction(burst), Fraction(0)

    def refill(self, now: Fraction) -> None:
        self.level = min(self.burst, self.level + self.rate * (now - self.at))
        self.at = now


@settings(max_examples=200)
@given(events=events, rate=st.integers(1, 20), burst=st.integers(1, 60))
def test_tokens_are_admitted_as_an_exact_bucket_would_admit_them(
    events: list[tuple[int, int, str]], rate: int, burst: int
) -> None:
    limits = RateLimits({"key": Limit(tokens_per_second=rate, token_burst=burst)})
    exact, now = ExactBucket(Fraction(rate), burst), 0
    for gap, tokens, then in events:
        now += gap
        exact.refill(Fraction(now, 1_000_000))
        answer = limits.reserve("key", tokens, now / 1e6)
        assert isinstance(answer, Reservation) == (exact.level >= tokens)
        if isinstance(answer, Reservation):
            exact.level -= tokens
            if then == "refund":
                limits.refund(answer, now / 1e6)
                exact.level = min(exact.burst, exact.level + tokens)
            elif then == "settle":
                limits.settle(answer, tokens // 2, now / 1e6)
                exact.level = min(exact.burst, exact.level + tokens - tokens // 2)


@given(
    gaps=st.lists(st.integers(0, 500_000), min_size=1, max_size=200), rate=st.integers(1, 50), burst=st.integers(1, 20)
)
def test_no_window_admits_more_than_burst_and_rate_allow(gaps: list[int], rate: int, burst: int) -> None:
    limits = RateLimits({"key": Limit(requests_per_second=rate, request_burst=burst)})
    now, admitted = 0, []
    for gap in gaps:
        now += gap
        if isinstance(limits.reserve("key", 1, now / 1e6), Reservation):
            admitted.append(now)

    for first, start in enumerate(admitted):
        for last in range(first, len(admitted)):
            assert last - first + 1 <= burst + rate * (admitted[last] - start) / 1e6 + 1e-6


@given(rate=st.floats(0.1, 50), burst=st.integers(1, 20), taken=st.integers(1, 20))
def test_who_comes_back_when_told_is_admitted_and_not_before(rate: float, burst: int, taken: int) -> None:
    limits = RateLimits({"key": Limit(requests_per_second=rate, request_burst=burst)})
    answer: Reservation | Rejected = Reservation("", 0)
    for _ in range(burst + taken):
        answer = limits.reserve("key", 1, 10.0)

    assert isinstance(answer, Rejected)
    assert answer.retry_after_seconds is not None
    early = 10.0 + answer.retry_after_seconds - 1e-6
    assert isinstance(limits.reserve("key", 1, early), Rejected), "a microsecond early is early"
    assert isinstance(limits.reserve("key", 1, 10.0 + answer.retry_after_seconds), Reservation)


def test_concurrency_is_freed_by_settling_and_by_refunding() -> None:
    limits = RateLimits(default=Limit(concurrency=2))
    first, second = limits.reserve("key", 5, 0.0), limits.reserve("key", 5, 0.0)

    assert isinstance(limits.reserve("key", 5, 0.0), Rejected)
    limits.settle(first, 5, 1.0)
    limits.refund(second, 1.0)
    assert isinstance(limits.reserve("key", 5, 1.0), Reservation)
    assert isinstance(limits.reserve("another", 5, 1.0), Reservation)


def test_more_than_a_burst_is_refused_for_good_and_says_so() -> None:
    answer = RateLimits({"key": Limit(tokens_per_second=10, token_burst=100)}).reserve("key", 101, 0.0)

    assert isinstance(answer, Rejected)
    assert answer.retry_after_seconds is None
    assert "100" in answer.reason


def test_what_was_used_beyond_the_reservation_is_owed() -> None:
    limits = RateLimits({"key": Limit(tokens_per_second=10, token_burst=100)})
    limits.settle(limits.reserve("key", 100, 0.0), 150, 0.0)

    assert isinstance(limits.reserve("key", 1, 4.9), Rejected)
    assert isinstance(limits.reserve("key", 1, 5.2), Reservation)
