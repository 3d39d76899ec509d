"""What a pool says of its replicas, as the engine gets it: above all how many KV blocks there are."""

from __future__ import annotations

from typing import Any

import pytest

from sim.cluster.machines import DEFAULT_NUM_BLOCKS, machine_for
from sim.experiment.schema import Pool
from sim.hardware import kv_blocks_for

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def num_blocks(**given: Any) -> int:
    pool = {"model": LLAMA, "gpu": "l40s", "replicas": 1} | given
    return machine_for(Pool.model_validate(pool)).settings.num_blocks


@pytest.mark.parametrize("engine", ["vllm", "trt"])
def test_blocks_are_those_that_were_given_or_else_what_memory_has_left(engine: str) -> None:
    """vLLM reports its `num_gpu_blocks` (`vllm:cache_config_info`), TensorRT-LLM its `trtllm_kv_cache_max_blocks`."""
    assert num_blocks(engine=engine, num_gpu_blocks=1234) == 1234
    assert num_blocks(engine=engine) == kv_blocks_for("l40s", LLAMA)
    assert num_blocks(engine=engine, kv_cache="fp8") == kv_blocks_for("l40s", LLAMA, kv_cache="fp8")


def test_a_replica_whose_memory_nobody_knows_has_plenty_of_blocks() -> None:
    assert num_blocks(gpu=None, step_cost={"base": 0.01}) == DEFAULT_NUM_BLOCKS
    assert num_blocks(gpu=None, step_cost={"base": 0.01}, num_gpu_blocks=7) == 7


def test_larger_blocks_are_fewer() -> None:
    assert num_blocks(block_size=64) == pytest.approx(num_blocks(block_size=16) / 4, abs=1)
