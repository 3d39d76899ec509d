"""What a probe asks stays within its budget, and shows each effect to both halves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.probe.ladder import Budget, cost_of, ladder
from sim.experiment.errors import InputError

budgets = st.builds(
    Budget,
    max_requests=st.integers(60, 500),
    max_tokens=st.integers(1000, 400_000),
    max_seconds=st.just(60.0),
    max_streams=st.integers(2, 32),
)


@given(budget=budgets, longest=st.integers(32, 16_000))
def test_a_ladder_is_within_its_budget_or_refused(budget: Budget, longest: int) -> None:
    try:
        stages = ladder(longest, budget)
    except InputError:
        with pytest.raises(InputError, match="expected more tokens, or a smaller --longest"):
            ladder(longest, budget)
        return

    requests, tokens = cost_of(stages)
    assert requests + len(stages) <= budget.max_requests
    assert tokens <= budget.max_tokens
    assert max(stage.streams for stage in stages) <= budget.max_streams
    assert max(ask.input_tokens for stage in stages for ask in stage.asks) <= longest
    assert all(len(stage.asks) >= 2 for stage in stages)


def test_load_climbs_from_one_request_at_a_time() -> None:
    stages = ladder(2048, Budget(max_requests=200, max_tokens=100_000, max_seconds=60, max_streams=16))

    assert [stage.streams for stage in stages] == [1, 1, 2, 4, 8, 16, 1, 2, 4, 8]
    alone = [ask.input_tokens for ask in stages[0].asks]
    assert alone == sorted(alone)
    assert alone[-1] == pytest.approx(2048, abs=1)
    assert {ask.output_tokens for ask in stages[0].asks} == {1}
