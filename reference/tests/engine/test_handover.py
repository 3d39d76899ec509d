"""A prompt computed on one replica and its answer on another: what each engine does, and whose blocks are whose."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.engine import (
    FINISHED,
    FIRST_TOKEN,
    RULE_SETS,
    Engine,
    EngineError,
    EngineSettings,
    Event,
    Sequence,
    StepCost,
    handed_over,
)

COST = StepCost(overhead=0.01, per_prefill_token=1e-4, per_sequence=1e-4, per_context_token=1e-5, mixed_overhead=0.005)


def replica(cost: StepCost = COST, **fields: Any) -> Engine:
    defaults = {"block_size": 4, "max_num_batched_tokens": 64, "max_num_seqs": 8, "max_model_len": 256}
    return Engine(EngineSettings(**(defaults | fields)), cost)


@settings(max_examples=60, deadline=None)
@given(
    input_tokens=st.integers(1, 60),
    output_tokens=st.integers(2, 40),
    block_size=st.sampled_from([1, 3, 4, 16]),
    rules=st.sampled_from(sorted(RULE_SETS)),
)
def test_two_halves_take_the_time_of_the_whole(
    submit: Any, drain: Any, input_tokens: int, output_tokens: int, block_size: int, rules: str
) -> None:
    fields = {"block_size": block_size, "rules": rules}
    whole, first, second = replica(**fields), replica(**fields), replica(**fields)
    submit(whole, Sequence("a", input_tokens, output_tokens), 0.0)
    submit(first, Sequence("a", input_tokens, 1, keeps_kv=True), 0.0)
    prompt = drain(first)
    came = prompt[0].at
    submit(second, handed_over("a", input_tokens, output_tokens, first_token_tick=round(came * 2**36)), came)
    answer = drain(second)

    assert [event.at for event in (prompt[0], answer[0])] == [event.at for event in drain(whole)]
    assert answer == [Event(FINISHED, "a", answer[0].at, output_tokens, 0)]
    assert second.gaps.items() == whole.gaps.items()
    assert second.counters.prefilled_tokens == 0
    assert first.counters.generated_tokens + second.counters.generated_tokens == output_tokens


def test_the_first_token_may_be_left_to_the_replica_that_decodes(submit: Any, drain: Any) -> None:
    engine = replica()
    submit(engine, handed_over("a", 20, 3, cached_tokens=8), 1.0)
    events = drain(engine)
    assert [event.kind for event in events] == [FIRST_TOKEN, FINISHED]
    assert events[0].at == pytest.approx(1.0 + COST.seconds(1, 1, 20, 0, 0.0)), "a decode step, over the whole prompt"
    assert {event.cached_tokens for event in events} == {8}, "as the other replica had it"


def test_the_kv_of_a_prompt_stays_until_it_is_released(submit: Any, drain: Any) -> None:
    engine = replica(num_blocks=8)
    submit(engine, Sequence("a", 20, 1, keeps_kv=True), 0.0)
    drain(engine)
    assert (engine.num_running, engine.kv_usage) == (0, 5 / 8)
    submit(engine, Sequence("b", 16, 1, keeps_kv=True), 1.0)
    assert drain(engine) == [], "no room for four blocks beside five of eight"
    assert engine.num_waiting == 1
    assert engine.release("a", 2.0)
    assert [event.request_id for event in drain(engine)] == ["b", "b"]
    assert engine.kv_usage == 4 / 8
    assert not engine.release("a", 4.0), "once is enough"


@pytest.mark.parametrize("when", ["while its step runs", "afterwards"])
def test_a_prompt_that_is_aborted_keeps_nothing(submit: Any, drain: Any, when: str) -> None:
    engine = replica()
    submit(engine, Sequence("a", 20, 1, keeps_kv=True), 0.0)
    if when == "afterwards":
        drain(engine)
    assert engine.abort("a", 0.001 if when == "while its step runs" else 1.0)
    drain(engine)
    assert engine.kv_usage == 0


def test_what_was_kept_is_found_by_the_next_of_the_same_prefix(submit: Any, drain: Any) -> None:
    engine = replica()
    submit(engine, Sequence("a", 20, 1, (1, 2, 3, 4, 5), keeps_kv=True), 0.0)
    drain(engine)
    submit(engine, Sequence("b", 24, 1, (1, 2, 3, 4, 5, 6), keeps_kv=True), 1.0)
    assert drain(engine)[0].cached_tokens == 20
    for name in "ab":
        engine.release(name, 2.0)
    assert engine.kv_usage == 0


def test_kv_that_came_and_is_here_already_takes_no_block_twice(submit: Any) -> None:
    engine = replica(num_blocks=40)
    for name in "ab":
        submit(engine, handed_over(name, 16, 9, (1, 2, 3, 4), first_token_tick=0), 1.0)
    engine.advance(1.001)
    assert engine.kv_usage == (4 + 1 + 1) / 40
    assert engine.counters.queried_tokens == 0, "nobody looked for a prompt to compute"


def test_a_handed_over_sequence_that_is_preempted_recomputes_its_prompt_here(submit: Any, drain: Any) -> None:
    engine = replica(num_blocks=8, prefix_caching=False)
    for name in "ab":
        submit(engine, handed_over(name, 8, 16, first_token_tick=0), 0.0)
    assert len(drain(engine)) == 2
    assert engine.counters.preemptions == 1
    assert engine.counters.prefilled_tokens >= 8 + 1


def test_a_sequence_waits_with_its_kv_for_a_seat_and_for_blocks(submit: Any, drain: Any) -> None:
    for fields in ({"max_num_seqs": 1}, {"num_blocks": 8}):
        engine = replica(**fields)
        for name in "ab":
            submit(engine, handed_over(name, 17, 9, first_token_tick=0), 0.0)
        assert (engine.num_running, engine.num_waiting) == (1, 1)
        assert [event.request_id for event in drain(engine)] == ["a", "b"]


def test_a_prompt_that_would_not_fit_a_step_may_still_come_from_elsewhere() -> None:
    engine = replica(rules="trt")
    assert engine.submit(Sequence("a", 100, 9), 0.0) is not None
    assert engine.submit(handed_over("b", 100, 9, first_token_tick=0), 0.0) is None


def test_what_crashes_keeps_nothing(submit: Any, drain: Any) -> None:
    engine = replica()
    submit(engine, Sequence("a", 20, 1, keeps_kv=True), 0.0)
    drain(engine)
    assert engine.crash(1.0) == []
    assert engine.kv_usage == 0
    assert not engine.release("a", 2.0)


def test_only_a_prompt_is_kept() -> None:
    with pytest.raises(EngineError, match="keeps its KV with 2 tokens to come; expected 1"):
        Sequence("a", 20, 2, keeps_kv=True)
