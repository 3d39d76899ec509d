"""Where the rule sets differ, one difference a test; and what vLLM's do. Sources: `test_documented_behaviour`."""

from typing import Any

import pytest

from reference.engine import FINISHED, FIRST_TOKEN, RULE_SETS, Engine, EngineSettings, Sequence, StepCost

SECOND = StepCost.linear(1.0)


def replica(rules: str, **fields: Any) -> Engine:
    defaults = {"block_size": 4, "max_num_batched_tokens": 16, "max_num_seqs": 8, "max_model_len": 256}
    return Engine(EngineSettings(**(defaults | fields), rules=rules), SECOND)


def test_vllm_computes_a_long_prompt_in_chunks_beside_the_decodes(submit: Any, drain: Any, times: Any) -> None:
    engine = replica("vllm")
    submit(engine, Sequence("short", 4, 10), 0.0)
    submit(engine, Sequence("long", 30, 1), 0.5)
    firsts = times(drain(engine), FIRST_TOKEN)
    assert firsts == {"short": 1.0, "long": 3.0}, "15 tokens beside the decode, and 15 more"


def test_trt_refuses_a_prompt_longer_than_a_step_unless_chunks_are_asked_for() -> None:
    rejected = replica("trt").submit(Sequence("long", 30, 1), 0.0)
    assert rejected is not None
    assert "prompts are not chunked" in rejected.reason
    assert replica("trt", chunked_prefill=True).submit(Sequence("long", 30, 1), 0.0) is None


def test_a_prompt_that_is_not_chunked_waits_for_a_step_with_room_for_all_of_it(
    submit: Any, drain: Any, times: Any
) -> None:
    ends = {}
    for rules in ("vllm", "trt"):
        engine = replica(rules)
        submit(engine, Sequence("short", 4, 4), 0.0)
        submit(engine, Sequence("whole", 16, 1), 0.5)
        ends[rules] = times(drain(engine), FIRST_TOKEN)["whole"]
    assert ends == {"vllm": 3.0, "trt": 5.0}


def test_trt_cuts_chunks_at_whole_blocks(submit: Any, drain: Any, times: Any) -> None:
    ends = {}
    for rules in ("vllm", "trt"):
        engine = replica(rules, chunked_prefill=True, max_num_batched_tokens=10, max_num_seqs=1)
        submit(engine, Sequence("a", 30, 1), 0.0)
        ends[rules] = times(drain(engine), FIRST_TOKEN)["a"]
    assert ends == {"vllm": 3.0, "trt": 4.0}, "30 = 10+10+10 = 8+8+8+6"


@pytest.mark.parametrize(("rules", "preemptions"), [("vllm", 1), ("trt_max_utilization", 1), ("trt", 0)])
def test_only_rules_that_reserve_never_preempt(
    submit: Any, drain: Any, times: Any, rules: str, preemptions: int
) -> None:
    engine = replica(rules, num_blocks=8)
    for index in range(2):
        submit(engine, Sequence(index, 8, 16), 0.0)
    events = drain(engine)
    assert engine.counters.preemptions == preemptions
    assert len(times(events, FINISHED)) == 2


def test_rules_that_reserve_admit_fewer_at_once(submit: Any) -> None:
    running = {}
    for rules in ("vllm", "trt"):
        engine = replica(rules, num_blocks=8)
        for index in range(2):
            submit(engine, Sequence(index, 8, 16), 0.0)
        engine.wake_at()
        running[rules] = engine.num_running
    assert running == {"vllm": 2, "trt": 1}


def test_rules_that_reserve_go_by_what_the_client_declared(submit: Any) -> None:
    running = []
    for declared in (4, 16):
        engine = replica("trt", num_blocks=8)
        for index in range(2):
            submit(engine, Sequence(index, 8, 4, max_output_tokens=declared), 0.0)
        engine.wake_at()
        running.append(engine.num_running)
    assert running == [2, 1]


@pytest.mark.parametrize(("rules", "cached"), [("vllm", 8), ("trt", 0)])
def test_a_prompt_that_is_still_being_computed_is_shared_by_vllm_only(
    submit: Any, drain: Any, rules: str, cached: int
) -> None:
    engine = replica(rules, max_num_batched_tokens=64)
    for index in range(2):
        submit(engine, Sequence(index, 10, 1, (71, 72)), 0.0)
    assert [event.cached_tokens for event in drain(engine) if event.kind == FIRST_TOKEN] == [0, cached]


@pytest.mark.parametrize("rules", sorted(RULE_SETS))
def test_a_prompt_computed_before_is_shared_by_all(submit: Any, drain: Any, rules: str) -> None:
    engine = replica(rules, max_num_batched_tokens=64)
    submit(engine, Sequence("a", 10, 1, (71, 72)), 0.0)
    submit(engine, Sequence("b", 10, 1, (71, 72)), 5.0)
    assert [event.cached_tokens for event in drain(engine) if event.kind == FIRST_TOKEN] == [0, 8]
    assert (engine.counters.queried_tokens, engine.counters.cached_tokens) == (20, 8)


def test_the_last_token_of_a_prompt_is_always_computed(submit: Any, drain: Any) -> None:
    engine = replica("vllm")
    submit(engine, Sequence("a", 8, 1, (71, 72)), 0.0)
    submit(engine, Sequence("b", 8, 1, (71, 72)), 5.0)
    assert [event.cached_tokens for event in drain(engine) if event.kind == FIRST_TOKEN] == [0, 4]


def test_the_answer_of_an_earlier_turn_is_found_by_the_next(submit: Any, drain: Any, times: Any) -> None:
    engine = replica("vllm")
    submit(engine, Sequence("turn 1", 8, 9, (1, 2, 3, 4)), 0.0)
    submit(engine, Sequence("turn 2", 22, 1, (1, 2, 3, 4, 5)), 20.0)
    assert times(drain(engine), FINISHED)["turn 2"] == 21.0
    assert engine.counters.cached_tokens == 16


def test_without_prefix_caching_nothing_is_found(submit: Any, drain: Any) -> None:
    engine = replica("vllm", prefix_caching=False)
    for at in (0.0, 5.0):
        submit(engine, Sequence(at.hex(), 10, 1, (71, 72)), at)
    assert {event.cached_tokens for event in drain(engine)} == {0}


def test_a_preempted_sequence_goes_to_the_head_of_the_queue_and_recomputes(submit: Any, drain: Any, times: Any) -> None:
    engine = replica("vllm", num_blocks=6, prefix_caching=False)
    submit(engine, Sequence("first", 8, 12), 0.0)
    submit(engine, Sequence("second", 8, 12), 0.0)
    submit(engine, Sequence("third", 8, 1), 0.5)
    ends = times(drain(engine), FINISHED)
    assert engine.counters.preemptions == 1
    assert engine.counters.prefilled_tokens == 8 + 8 + 8 + (8 + 5)
    assert ends["first"] < ends["third"]
    assert ends["first"] < ends["second"]


def test_a_step_that_preempts_admits_nobody(submit: Any) -> None:
    engine = replica("vllm", num_blocks=8, max_num_batched_tokens=8, prefix_caching=False)
    for index in range(2):
        submit(engine, Sequence(index, 12, 12), 0.0)
    while not engine.counters.preemptions:
        wake = engine.wake_at()
        assert wake is not None
        engine.advance(wake)
    assert (engine.num_running, engine.num_waiting) == (1, 1), "though two blocks for a first chunk are free again"
    engine.advance(wake + 1.0)
    assert (engine.num_running, engine.num_waiting) == (2, 0)


def test_a_preempted_sequence_finds_what_is_left_of_its_own_blocks(submit: Any, drain: Any) -> None:
    computed = {}
    for caching in (True, False):
        engine = replica("vllm", num_blocks=8, prefix_caching=caching)
        for index in range(2):
            submit(engine, Sequence(index, 8, 16), 0.0)
        drain(engine)
        computed[caching] = engine.counters.prefilled_tokens
    assert computed[True] < computed[False]


def test_the_head_of_the_queue_is_not_overtaken_by_one_that_would_fit(submit: Any, drain: Any, times: Any) -> None:
    engine = replica("vllm", num_blocks=8)
    submit(engine, Sequence("running", 16, 8), 0.0)
    submit(engine, Sequence("big", 16, 1), 0.5)
    submit(engine, Sequence("small", 1, 1), 0.5)
    ends = times(drain(engine), FINISHED)
    assert ends["big"] <= ends["small"]
    assert ends["small"] > ends["running"]


def test_blocks_are_evicted_least_recently_used_first_and_unknown_prompts_age_like_known_ones(
    submit: Any, drain: Any
) -> None:
    engine = replica("vllm", num_blocks=6)
    submit(engine, Sequence("old", 9, 1, (1, 2)), 0.0)
    submit(engine, Sequence("new", 9, 1, (8, 9)), 2.0)
    submit(engine, Sequence("nobody's", 9, 1), 4.0)
    submit(engine, Sequence("old again", 9, 1, (1, 2)), 6.0)
    submit(engine, Sequence("new again", 9, 1, (8, 9)), 8.0)
    cached = {event.request_id: event.cached_tokens for event in drain(engine)}
    assert cached["old again"] < 8
    assert cached["new again"] >= cached["old again"]
