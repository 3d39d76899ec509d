"""The backoff: waits grow and stay bounded, the limit is exact, and whoever served long enough starts anew."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from reference.worker.supervised.restarts import Restarts

seconds = st.floats(0.01, 100)


@given(st.integers(0, 30), seconds, seconds)
def test_exactly_so_many_restarts_as_allowed_with_waits_that_never_shrink(limit: int, base: float, most: float) -> None:
    restarts = Restarts(limit, base, most, stable_seconds=10)

    waits = [restarts.after(0.0) for _ in range(limit + 1)]

    assert waits[-1] is None
    assert None not in waits[:-1]
    assert all(0 < wait <= most for wait in waits[:-1] if wait is not None)
    assert all(first <= second for first, second in pairwise(wait or 0.0 for wait in waits[:-1]))


@given(st.integers(1, 5), st.lists(st.booleans(), max_size=60))
def test_only_ends_that_follow_upon_each_other_count(limit: int, were_stable: list[bool]) -> None:
    restarts = Restarts(limit, 1.0, 8.0, stable_seconds=10)
    in_a_row = 0

    for was_stable in were_stable:
        in_a_row = 1 if was_stable else in_a_row + 1
        wait = restarts.after(10.0 if was_stable else 9.9)
        assert (wait is None) == (in_a_row > limit)
        if wait is None:
            return
