"""How the benchmark runs behind the rows were driven, as far as that is known, and what the engine was set to.

The published rows come from InferenceMAX, whose client and server scripts are public: lengths are drawn evenly from
0.8 to 1 of the nominal, each client sends ten requests, all at once at the start; vLLM runs with
`--max-num-seqs CONCURRENCY --max-num-batched-tokens 8192` and no prefix caching, TensorRT-LLM with room for whole
prompts. Of the others only concurrency and nominal lengths are known; the rest is a `Drive`, read off other rows.
"""

from __future__ import annotations

from typing import Final

from reference.engine import EngineSettings
from sim.fidelity.closed_loop import Loop
from sim.fidelity.correction import Drive
from sim.fidelity.rows import PUBLISHED, Row
from sim.hardware import HardwareError
from sim.hardware.profile import Profile, shipped_profiles

SHORTEST: Final = {PUBLISHED: 0.8}
"""Of the nominal length; 1 where nothing is known."""
WHOLE_PROMPTS: Final = 16_384
SEED: Final = 1
BLOCK: Final = 16

STREAMED_AT_ONCE: Final = 10
LLAMA_STREAMED_AT_ONCE: Final = 21


DRIVES: Final = tuple(Drive(requests, budget) for requests in (6, 10) for budget in (2048, 4096, 8192))
"""What an unpublished harness may have done."""


def drives_of(harness: str) -> tuple[Drive, ...]:
    """Give the drives that a harness may have used: one where it is published."""
    return (Drive(),) if harness == PUBLISHED else DRIVES


def loop_of(row: Row, drive: Drive) -> Loop:
    """Give what the row's clients did."""
    lengths = (row.input_tokens, row.output_tokens)
    shortest = SHORTEST.get(row.harness, 1.0)
    return Loop.random(row.concurrency, lengths, shortest, drive.requests_per_client, SEED)


def settings_of(row: Row, profile: Profile, drive: Drive) -> EngineSettings:
    """Give what the row's engine was set to."""
    longest = row.input_tokens + row.output_tokens
    budget = max(drive.budget, row.concurrency)
    has_whole_prompts = row.engine == "trt" and row.harness == PUBLISHED
    if has_whole_prompts:
        budget = max(WHOLE_PROMPTS, row.input_tokens + row.concurrency)
    room = max(profile.kv_tokens or 0, longest + BLOCK)
    return EngineSettings(
        max_num_seqs=row.concurrency,
        max_num_batched_tokens=budget,
        max_model_len=longest,
        block_size=BLOCK,
        num_blocks=-(-room // BLOCK),
        prefix_caching=False,
        rules=row.engine,
        chunked_prefill=not has_whole_prompts,
    )


def tokens_before_first(row: Row) -> int:
    """Give how many tokens come in the first chunk that a client sees (TensorRT-LLM's `stream_interval`).

    InferenceMAX sets it for TensorRT-LLM: ten for DeepSeek; for Llama-3.1-70B the rows themselves show it (at equal
    prompts TTFT with 1,024 output tokens is that of 8,192 and 20 to 21 times TPOT more, but on eight GPUs). A setting
    read off rows is no prediction of it, so the scoreboard also tells the error with none of this.
    """
    if row.engine != "trt" or row.harness != PUBLISHED:
        return 1
    if row.family == "DeepSeek-R1":
        return STREAMED_AT_ONCE
    if row.family == "Llama-3.1-70B" and row.tensor_parallel < 8 and row.input_tokens == row.output_tokens:
        return LLAMA_STREAMED_AT_ONCE
    return 1


def profile_of(row: Row) -> Profile:
    """Find the operator times of the row's replica.

    Raises:
        HardwareError: there are none.
    """
    keys = (row.engine, row.gpu, row.model, row.weights, row.layout)
    for profile in shipped_profiles():
        if _keys(profile) == keys:
            return profile
    raise HardwareError(f"row {row.id}: no operator times for {', '.join(map(str, keys))}")


def _keys(profile: Profile) -> tuple[object, ...]:
    keys = profile.keys
    layout = (
        keys["tensor_parallel"],
        keys.get("data_parallel", 1),
        keys.get("expert_tensor", 1),
        keys.get("expert_parallel", 1),
    )
    return keys["engine"], keys["gpu"], keys["model"], keys["weights"], layout
