"""The closed form of equal steps against adding them up; exact at boundaries, whatever the size of the numbers."""

from hypothesis import example, given
from hypothesis import strategies as st

from reference.engine.plan import Plan, tick_at, tick_from

plans = st.tuples(st.integers(0, 2**50), st.integers(1, 5000), st.integers(1, 2**38), st.integers(0, 2**30))


def begun(form: tuple[int, int, int, int]) -> Plan:
    plan = Plan()
    plan.begin(*form)
    return plan


@given(start=st.integers(0, 2**50), steps=st.integers(1, 60), first=st.integers(1, 2**38), growth=st.integers(0, 2**30))
def test_a_plan_ends_when_its_steps_added_up_do(start: int, steps: int, first: int, growth: int) -> None:
    assert begun((start, steps, first, growth)).end == start + sum(first + growth * index for index in range(steps))


@given(steps=st.integers(0, 20_000), first=st.integers(1, 2**38), growth=st.integers(0, 2**30))
@example(steps=12_336, first=3_270_033_197, growth=15)
def test_a_step_is_whole_from_the_very_tick_of_its_end_and_not_before(steps: int, first: int, growth: int) -> None:
    """The example is one of those whose root comes out of the floats a hair too small."""
    plan = begun((0, 20_001, first, growth))
    ticks = plan.ticks_of(steps)
    assert plan.whole_steps(ticks) == steps
    assert plan.whole_steps(ticks + plan.first - 1) == steps
    if steps:
        assert plan.whole_steps(ticks - 1) == steps - 1


@given(form=plans, data=st.data())
def test_what_is_left_of_a_plan_ends_when_the_whole_would_have(
    form: tuple[int, int, int, int], data: st.DataObject
) -> None:
    plan, whole = begun(form), begun(form)
    steps = data.draw(st.integers(0, plan.steps - 1))
    plan.drop(steps)
    assert plan.start == whole.start + whole.ticks_of(steps)
    assert plan.start + plan.ticks_of(plan.steps) == plan.end == whole.end
    plan.keep(1)
    assert plan.end == whole.start + whole.ticks_of(steps + 1)


@given(now=st.floats(0, 2.0**25))
def test_an_instant_lies_between_its_ticks(now: float) -> None:
    assert tick_at(now) * 2.0**-36 <= now <= tick_from(now) * 2.0**-36
    assert tick_from(now) - tick_at(now) <= 1 or now > 2.0**17
