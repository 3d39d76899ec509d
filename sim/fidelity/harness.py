"""How the benchmark runs behind the rows were driven, as far as that is known, and what the engine was set to.

The published rows come from InferenceMAX, whose client and server scripts are public: lengths are drawn evenly from
0.8 to 1 of the nominal, each client sends ten requests, all at once at the start; vLLM runs with
`--max-num-seqs CONCURRENCY --max-num-batched-tokens 8192` and no prefix caching, TensorRT-LLM without chunks and with
the budget of `published_budget`. Of the others only concurrency and nominal lengths are known; the rest is a `Drive`,
read off other rows.
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
"""Tokens of a step in the published scripts of TensorRT-LLM (`max_num_tokens`), where a model has no other."""
PUBLISHED_BUDGETS: Final = {"gpt-oss-120b": 20_000}
ROOM_BESIDE_A_PROMPT: Final = 64
"""With DeepSeek a step has room for one prompt, a token for each client, and this; in whole multiples of it."""
SEED: Final = 1
BLOCK: Final = 16

STREAMED_AT_ONCE: Final = 10
LLAMA_WAITS: Final = 20
"""Steps for which a prompt waits for others to fill one (`batch_wait_timeout_iters`)."""
RANKS_WAIT: Final = 60
"""Steps for which data-parallel ranks wait until each has a prompt (`attention_dp_config.timeout_iters`)."""


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
    has_whole_prompts = row.engine == "trt" and row.harness == PUBLISHED
    budget = published_budget(row) if has_whole_prompts else max(drive.budget, row.concurrency)
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


def published_budget(row: Row) -> int:
    """Give the tokens of a step that InferenceMAX's script of TensorRT-LLM allows."""
    least = row.input_tokens + row.concurrency
    if row.family == "DeepSeek-R1":
        in_all = row.input_tokens + row.concurrency * row.data_parallel + ROOM_BESIDE_A_PROMPT
        return -(-in_all // ROOM_BESIDE_A_PROMPT) * ROOM_BESIDE_A_PROMPT
    return max(PUBLISHED_BUDGETS.get(row.family, WHOLE_PROMPTS), least)


def tokens_before_first(row: Row) -> int:
    """Give which token it is that a client sees first, by the steps that pass before it.

    By InferenceMAX's scripts of TensorRT-LLM, DeepSeek's data-parallel ranks begin prompts together, and with
    Llama-3.1-70B, 1,024 tokens of prompt and answer, on fewer than eight GPUs, a prompt waits up to twenty steps for
    others (the rows agree: at equal prompts TTFT is 20 to 21 times TPOT more than with 8,192 tokens of answer).

    They also set `stream_interval` to ten, or twenty for gpt-oss. By TensorRT-LLM's source that holds no first token
    back, and the rows of Llama and gpt-oss show none held back. Those of DeepSeek do, so for it ten are counted: that
    is read off its own rows, and FIDELITY.md tells what is without it.
    """
    if row.engine != "trt" or row.harness != PUBLISHED:
        return 1
    if row.family == "DeepSeek-R1":
        return STREAMED_AT_ONCE + (round(steps_until_all_begin(row)) if row.data_parallel > 1 else 0)
    if row.family == "Llama-3.1-70B" and row.tensor_parallel < 8 and row.input_tokens == row.output_tokens:
        return LLAMA_WAITS + 1
    return 1


def steps_until_all_begin(row: Row) -> float:
    """Give how many steps a prompt waits in the mean until every rank has one, or the ranks have waited long enough.

    A rank gets one in a step with the chance that one of its answers ends. Prompts come evenly over the wait.
    """
    chance = min(1.0, row.concurrency / (row.output_tokens * (1.0 + SHORTEST[PUBLISHED]) / 2))
    still_waiting = [1.0 - (1.0 - (1.0 - chance) ** step) ** row.data_parallel for step in range(RANKS_WAIT)]
    mean = sum(still_waiting)
    square = sum((2 * step + 1) * waits for step, waits in enumerate(still_waiting))
    return square / mean / 2


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
