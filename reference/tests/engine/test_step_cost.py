"""The closed form of a step: affine where the engine leaps, and the same after a journey through JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.engine import EngineError, GapHistogram, StepCost

seconds = st.floats(0, 0.1)
knots = st.lists(st.tuples(st.integers(1, 5000), seconds), max_size=5, unique_by=lambda knot: knot[0]).map(
    lambda found: tuple((float(tokens), value) for tokens, value in sorted(found))
)
costs = st.builds(
    StepCost,
    overhead=seconds,
    token_seconds=knots,
    per_prefill_token=seconds,
    per_sequence=seconds,
    per_context_token=seconds,
    per_prefill_pair=seconds,
    sequence_seconds=knots,
    mixed_overhead=seconds,
    mixed_context=seconds,
    context_skew=seconds,
)


@given(cost=costs, batch=st.integers(1, 300), context=st.integers(0, 10**6))
def test_a_step_that_only_decodes_is_affine_in_its_context(cost: StepCost, batch: int, context: int) -> None:
    fixed, per_context_token = cost.decode_affine(batch)
    step = cost.seconds(
        num_sequences=batch, num_tokens=batch, context_tokens=context, prefill_tokens=0, prefill_pairs=0.0
    )
    assert step == pytest.approx(fixed + per_context_token * context, rel=1e-12)


@given(cost=costs)
def test_a_cost_survives_json(cost: StepCost) -> None:
    assert StepCost.from_dict(json.loads(json.dumps(cost.to_dict()))) == cost


def test_token_time_is_straight_between_knots_and_goes_on_with_the_last_slope() -> None:
    cost = StepCost(token_seconds=((10.0, 1.0), (20.0, 1.0), (40.0, 2.0)))
    at = [cost.decode_affine(tokens)[0] for tokens in (1, 10, 15, 20, 30, 40, 60)]
    assert at == pytest.approx([1.0, 1.0, 1.0, 1.0, 1.5, 2.0, 3.0])


@given(cost=costs, batch=st.integers(1, 300), context=st.integers(0, 10**6), prefill=st.integers(1, 5000))
def test_a_prompt_in_the_step_costs_what_a_mixed_step_costs_more(
    cost: StepCost, batch: int, context: int, prefill: int
) -> None:
    mixed = cost.seconds(batch, batch, context, prefill, 0.0)
    alone = cost.seconds(batch, batch, context, 0, 0.0)
    more = cost.per_prefill_token * prefill + cost.mixed_overhead + cost.mixed_context * context
    assert mixed - alone == pytest.approx(more, rel=1e-9, abs=1e-9 * mixed)


def test_the_linear_form_is_what_a_scenario_writes() -> None:
    cost = StepCost.linear(0.01, 0.001, 0.002, 0.003)
    step = cost.seconds(num_sequences=3, num_tokens=12, context_tokens=7, prefill_tokens=10, prefill_pairs=50.0)
    assert step == pytest.approx(0.01 + 0.001 * 10 + 0.002 * 3 + 0.003 * 7)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"overhead": -1.0}, "overhead is -1.0"),
        ({"overhead": "fast"}, "could not convert"),
        ({"ovrehead": 1.0}, "unknown field 'ovrehead'; known are context_skew"),
        ({"token_seconds": [[2, 1.0], [1, 1.0]]}, "knot 1.0 after 2.0"),
        ({"token_seconds": [[1, float("nan")]]}, "negative or undefined"),
    ],
)
def test_a_cost_that_makes_no_sense_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        StepCost.from_dict(fields)


@given(
    first=st.integers(1, 2**40),
    difference=st.integers(0, 2**32),
    steps=st.integers(1, 200),
    weight=st.integers(1, 300),
)
def test_a_progression_of_gaps_is_binned_as_its_members_are(
    first: int, difference: int, steps: int, weight: int
) -> None:
    together, singly = GapHistogram(), GapHistogram()
    together.add(first, difference, steps, weight)
    for index in range(steps):
        singly.add(first + index * difference, 0, 1, weight)
    assert together.items() == singly.items()
    assert together.count == steps * weight


@given(ticks=st.integers(1, 2**45))
def test_a_gap_is_told_within_half_a_percent(ticks: int) -> None:
    gaps = GapHistogram()
    gaps.add(ticks, 0, 1, 1)
    ((told, _),) = gaps.items()
    assert told == pytest.approx(ticks / 2**36, rel=0.004)
