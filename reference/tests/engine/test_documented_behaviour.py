"""Worked examples from the documentation of vLLM and TensorRT-LLM, flown as they are told there.

vLLM: docs/design/prefix_caching.md and docs/configuration/optimization.md. TensorRT-LLM:
docs/source/features/paged-attention-ifb-scheduler.md, kvcache.md and, for the capacity policies,
docs/source/performance/performance-tuning-guide/useful-runtime-flags.md.

Documented and not modelled: TensorRT-LLM's reuse of a part of a block (`enable_partial_reuse`), its priorities of
blocks and its waiting for a prompt that is being computed (`enable_prefix_aware_scheduling`); vLLM's
`long_prefill_token_threshold`.
"""

from __future__ import annotations

from typing import Any

import pytest

from reference.engine import FINISHED, FIRST_TOKEN, Engine, EngineSettings, Sequence, StepCost

SECOND = StepCost.linear(1.0)
EVERY_RULE = ("vllm", "trt", "trt_max_utilization")


def replica(rules: str, **fields: Any) -> Engine:
    defaults = {"block_size": 4, "max_num_batched_tokens": 64, "max_num_seqs": 8, "max_model_len": 256}
    return Engine(EngineSettings(**(defaults | fields), rules=rules), SECOND)


def test_the_example_of_prefix_caching(submit: Any, drain: Any) -> None:
    """vLLM, prefix_caching.md, "Example": ten blocks of four tokens, requests 0, 1 and 2."""
    engine = replica("vllm", num_blocks=10)
    submit(engine, Sequence("0", 15, 3, (0, 1, 2, 3)), 0.0)  # three full blocks and three tokens; then blocks 3 and 4
    submit(engine, Sequence("1", 14, 2, (0, 1, 25)), 1.5)  # ten tokens are the same, and that is two blocks
    cached = {event.request_id: event.cached_tokens for event in drain(engine)}
    assert cached == {"0": 0, "1": 8}

    submit(engine, Sequence("2", 29, 1, (0, 1, 2, 31, 32, 33, 34)), 5.0)
    engine.advance(5.5)
    assert engine.kv_usage == 8 / 10, "0, 1, 2, and 7, 8, 9, 4, 3 from the head of the queue"
    assert drain(engine)[0].cached_tokens == 12
    submit(engine, Sequence("as 1", 13, 1, (0, 1, 25)), 10.0)
    submit(engine, Sequence("as 0", 17, 1, (0, 1, 2, 3)), 20.0)
    cached = {event.request_id: event.cached_tokens for event in drain(engine)}
    assert cached == {"as 1": 12, "as 0": 12}, "block 5 is there still, block 3 was evicted"


@pytest.mark.parametrize("rules", ["trt", "trt_max_utilization"])
def test_the_example_of_the_scheduler(submit: Any, drain: Any, times: Any, rules: str) -> None:
    """TensorRT-LLM, paged-attention-ifb-scheduler.md, "The schedulers": batch size 4, 12 tokens a step."""
    engine = replica(rules, max_num_seqs=4, max_num_batched_tokens=12)
    for number, output_tokens in enumerate((2, 9, 9, 9, 9), start=1):
        submit(engine, Sequence(number, 5, output_tokens), 0.0)
    firsts = times(drain(engine), FIRST_TOKEN)
    assert firsts == {1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0, 5: 3.0}, "2 and 3 by tokens; 4 by seats, until 1 has left"


def test_chunked_context_lets_the_third_request_of_the_example_begin(submit: Any) -> None:
    """TensorRT-LLM, ibid., "Revisiting Paged Context Attention and Context Chunking"; chunks are whole blocks."""
    engine = replica("trt", max_num_seqs=4, max_num_batched_tokens=12, block_size=2, chunked_prefill=True)
    for number in (1, 2, 3):
        submit(engine, Sequence(number, 5, 9), 0.0)
    engine.advance(0.5)
    assert (engine.num_running, engine.num_waiting) == (3, 0)
    assert engine.kv_usage * engine.settings.num_blocks == 3 + 3 + 1


@pytest.mark.parametrize("rules", EVERY_RULE)
def test_decodes_have_the_budget_first(submit: Any, drain: Any, times: Any, rules: str) -> None:
    """vLLM, optimization.md, "Chunked Prefill"; TensorRT-LLM: "prioritizes scheduling requests in generation phase"."""
    engine = replica(rules, max_num_seqs=4, max_num_batched_tokens=4)
    for number in range(3):
        submit(engine, Sequence(number, 1, 6), 0.0)
    submit(engine, Sequence("prompt", 4, 1), 0.5)
    events = drain(engine)
    assert times(events, FINISHED)[0] == 6.0, "a token in every step"
    # a token is left beside the decodes: vLLM takes it for a chunk each step, a whole prompt must wait for them to end
    assert times(events, FIRST_TOKEN)["prompt"] == (5.0 if rules == "vllm" else 7.0)


@pytest.mark.parametrize("rules", EVERY_RULE)
def test_no_more_sequences_run_than_max_num_seqs(submit: Any, drain: Any, times: Any, rules: str) -> None:
    """vLLM's `max_num_seqs`, TensorRT-LLM's `max_batch_size`."""
    engine = replica(rules, max_num_seqs=2)
    for number in range(3):
        submit(engine, Sequence(number, 2, 4), 0.0)
    assert (engine.num_running, engine.num_waiting) == (2, 1)
    assert times(drain(engine), FIRST_TOKEN)[2] == 5.0


@pytest.mark.parametrize("rules", EVERY_RULE)
def test_only_what_is_not_cached_counts_against_the_budget(submit: Any, drain: Any, times: Any, rules: str) -> None:
    """vLLM, prefix_caching.md, "Block Allocation"; TensorRT-LLM, kvcache.md: token-budget accounting is reduced."""
    engine = replica(rules, max_num_batched_tokens=16)
    submit(engine, Sequence("first", 16, 1, (1, 2, 3, 4)), 0.0)
    for name in ("a", "b"):
        submit(engine, Sequence(name, 16, 1, (1, 2, 3, 4)), 5.0)
    assert set(times(drain(engine), FIRST_TOKEN).values()) == {1.0, 6.0}


@pytest.mark.parametrize("rules", EVERY_RULE)
def test_only_full_blocks_are_found(submit: Any, drain: Any, rules: str) -> None:
    """vLLM, prefix_caching.md, note 1; TensorRT-LLM with `enable_partial_reuse` off."""
    engine = replica(rules)
    submit(engine, Sequence("a", 7, 1, (1,)), 0.0)
    submit(engine, Sequence("b", 7, 1, (1,)), 5.0)
    assert drain(engine)[-1].cached_tokens == 4


@pytest.mark.parametrize("rules", EVERY_RULE)
def test_blocks_are_taken_as_tokens_come_and_the_last_one_is_as_good_as_any(
    submit: Any, drain: Any, times: Any, rules: str
) -> None:
    """Both page their KV; neither keeps a share of the blocks back (vLLM v0 had a watermark), reserved or not."""
    engine = replica(rules, num_blocks=4)
    submit(engine, Sequence("a", 8, 9), 0.0)
    usage = []
    for at in (0.5, 1.5, 4.5, 5.5, 8.5):
        engine.advance(at)
        usage.append(engine.kv_usage * 4)
    assert usage == [2, 3, 3, 4, 4]
    assert times(drain(engine), FINISHED) == {"a": 9.0}


@pytest.mark.parametrize("rules", ["vllm", "trt_max_utilization"])
def test_the_youngest_pays_when_blocks_run_out_and_comes_back_by_recomputing(
    submit: Any, drain: Any, times: Any, rules: str
) -> None:
    """vLLM, optimization.md, "Preemption"; TensorRT-LLM: MAX_UTILIZATION risks to pause requests."""
    engine = replica(rules, num_blocks=6, prefix_caching=False)
    submit(engine, Sequence("old", 8, 12), 0.0)
    submit(engine, Sequence("young", 8, 12), 0.0)
    ends = times(drain(engine), FINISHED)
    assert engine.counters.preemptions == 1
    assert ends["old"] == 12.0 < ends["young"]
    assert engine.counters.prefilled_tokens == 8 + 8 + (8 + 5)


def test_a_started_request_is_never_paused_under_guaranteed_no_evict(submit: Any, drain: Any, times: Any) -> None:
    """TensorRT-LLM, useful-runtime-flags.md, "Capacity Scheduler Policy": one waits until the other has ended."""
    engine = replica("trt", num_blocks=6, prefix_caching=False)
    submit(engine, Sequence("old", 8, 12), 0.0)
    submit(engine, Sequence("young", 8, 12), 0.0)
    events = drain(engine)
    assert engine.counters.preemptions == 0
    assert times(events, FIRST_TOKEN)["young"] == times(events, FINISHED)["old"] + 1.0
