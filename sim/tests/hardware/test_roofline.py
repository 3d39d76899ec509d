"""Step cost and memory by roofline: laws first, then public numbers it must come near."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.engine import StepCost
from sim.hardware import (
    HardwareError,
    find_gpu,
    find_model,
    gpu_names,
    kv_blocks_for,
    model_names,
    price_per_hour_usd,
    read_model,
    step_cost_for,
    weight_bytes_per_gpu,
)

LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
LLAMA_70B = "meta-llama/Llama-3.1-70B-Instruct"
gpus = st.sampled_from(gpu_names())
models = st.sampled_from(model_names())


def prefill(cost: StepCost, tokens: int) -> float:
    return cost.seconds(
        num_sequences=1, num_tokens=tokens, context_tokens=0, prefill_tokens=tokens, prefill_pairs=tokens * tokens / 2
    )


def decode(cost: StepCost, batch: int, context: int) -> float:
    fixed, per_context_token = cost.decode_affine(batch)
    return fixed + per_context_token * batch * context


@settings(max_examples=60, deadline=None)
@given(gpu=gpus, model=models, fewer=st.integers(1, 4000), more=st.integers(1, 4000))
def test_more_work_never_takes_less_time(gpu: str, model: str, fewer: int, more: int) -> None:
    cost = step_cost_for(gpu, model)
    assert prefill(cost, fewer) < prefill(cost, fewer + more)
    assert decode(cost, fewer, 100) < decode(cost, fewer + more, 100)
    assert decode(cost, 8, fewer) < decode(cost, 8, fewer + more)


@settings(max_examples=40, deadline=None)
@given(gpu=gpus, model=models, tokens=st.integers(1, 8192))
def test_a_step_is_never_faster_than_the_data_sheet_allows(gpu: str, model: str, tokens: int) -> None:
    card, shape = find_gpu(gpu), find_model(model)
    flops = 2 * shape.active_parameters * tokens
    one_token_bytes = 2 * shape.active_parameters
    bound = max(flops / card.bf16_flops, one_token_bytes / card.hbm_bytes_per_second)
    assert prefill(step_cost_for(gpu, model), tokens) > bound


@settings(max_examples=40, deadline=None)
@given(gpu=gpus, model=models)
def test_fp8_weights_are_read_in_less_time_and_fp8_kv_holds_twice_the_tokens(gpu: str, model: str) -> None:
    assert decode(step_cost_for(gpu, model, weights="fp8"), 1, 100) < decode(step_cost_for(gpu, model), 1, 100)
    wide = step_cost_for(gpu, model).per_context_token
    assert step_cost_for(gpu, model, kv_cache="fp8").per_context_token == pytest.approx(wide / 2)


def test_fp8_kv_doubles_the_blocks() -> None:
    blocks = kv_blocks_for("h100-sxm", LLAMA_8B)
    assert kv_blocks_for("h100-sxm", LLAMA_8B, kv_cache="fp8") in (2 * blocks, 2 * blocks + 1)


@pytest.mark.parametrize("gpus", [2, 4, 8])
def test_tensor_parallelism_over_nvlink_speeds_up_a_large_model_but_not_in_proportion(gpus: int) -> None:
    one = decode(step_cost_for("h100-sxm", LLAMA_70B), 8, 1000)
    many = decode(step_cost_for("h100-sxm", LLAMA_70B, tensor_parallel=gpus), 8, 1000)
    assert one / gpus < many < one
    assert price_per_hour_usd("h100-sxm", gpus) == gpus * price_per_hour_usd("h100-sxm")
    assert weight_bytes_per_gpu(LLAMA_70B, tensor_parallel=gpus) == weight_bytes_per_gpu(LLAMA_70B) / gpus


def test_a_mixture_of_experts_reads_more_of_them_as_the_batch_grows() -> None:
    cost = step_cost_for("h200-sxm", "Qwen/Qwen3-30B-A3B")
    one, some, many = (cost.decode_affine(batch)[0] for batch in (1, 16, 256))
    all_experts = 30.5e9 * 2 / (find_gpu("h200-sxm").hbm_bytes_per_second * find_gpu("h200-sxm").memory_ratio)
    assert one < 0.3 * all_experts
    assert one < some < many
    assert many > 0.9 * all_experts


@pytest.mark.parametrize(
    ("model", "billions", "active"),
    [
        (LLAMA_8B, 8.03, 8.03),
        (LLAMA_70B, 70.6, 70.6),
        ("Qwen/Qwen2.5-7B-Instruct", 7.62, 7.62),
        ("Qwen/Qwen2.5-32B-Instruct", 32.8, 32.8),
        ("Qwen/Qwen3-30B-A3B", 30.5, 3.3),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 46.7, 12.9),
        ("mistralai/Mistral-7B-Instruct-v0.3", 7.25, 7.25),
    ],
)
def test_parameters_are_counted_as_their_model_cards_do(model: str, billions: float, active: float) -> None:
    shape = find_model(model)
    embeddings = shape.parameters - shape.num_layers * (
        shape.attention_parameters
        + shape.expert_parameters * max(1, shape.num_experts)
        + shape.hidden_size * shape.num_experts
    )
    assert shape.parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert (shape.active_parameters + embeddings) / 1e9 == pytest.approx(active, rel=0.03)


def test_one_h100_decodes_llama_8b_alone_at_the_publicly_known_pace() -> None:
    """vLLM on one H100 SXM, bf16, batch 1: 6.5 to 8 ms a token in public benchmarks."""
    assert 0.0065 < decode(step_cost_for("h100-sxm", LLAMA_8B), 1, 600) < 0.008


def test_an_rtx_4090_comes_near_the_operator_times_measured_on_it() -> None:
    """LLMServingSim 2's profile of vLLM 0.19 (MIT, commit 5daddb21), Llama-3.1-8B bf16: 32 layers and the head."""
    cost = step_cost_for("rtx-4090", LLAMA_8B)
    host = 700e-6
    measured_decode = 32 * (467 + 8.5 + 14.2) * 1e-6 + 1122e-6
    measured_prefill = 32 * (5407 + 252 + 336) * 1e-6 + 1122e-6
    assert decode(cost, 1, 1024) - host == pytest.approx(measured_decode, rel=0.05)
    assert prefill(cost, 2048) - host == pytest.approx(measured_prefill, rel=0.08)


def test_an_rtx_4090_has_about_the_kv_blocks_that_vllm_found_on_it() -> None:
    """vLLM 0.19 reported 2,588 blocks of 16 for Llama-3.1-8B, 2,048 batched tokens, utilisation 0.9 (same source)."""
    assert kv_blocks_for("rtx-4090", "meta-llama/Llama-3.1-8B") == pytest.approx(2588, rel=0.06)


def test_a_model_that_does_not_fit_says_what_is_missing_and_what_would_do() -> None:
    with pytest.raises(HardwareError, match=r"142\.\d GB per GPU, 76\.5 GB are available.*weights: fp8 would fit"):
        kv_blocks_for("h100-sxm", LLAMA_70B)
    with pytest.raises(HardwareError, match="tensor_parallel: 4 would fit"):
        kv_blocks_for("rtx-4090", LLAMA_70B, weights="fp8")
    with pytest.raises(HardwareError, match="no tensor_parallel up to 16 of rtx-4090 would fit"):
        kv_blocks_for("rtx-4090", LLAMA_70B, gpu_memory_utilization=0.2)


@pytest.mark.parametrize(
    ("gpu", "model", "options", "message"),
    [
        ("h1000", LLAMA_8B, {}, "unknown GPU 'h1000'; nearest: h100-sxm"),
        ("h100", "llama-3.1-8b-instuct", {}, "nearest: meta-llama/Llama-3.1-8B"),
        ("h100", LLAMA_8B, {"engine": "sglang"}, "unknown engine 'sglang'"),
        ("h100", LLAMA_8B, {"weights": "int4"}, "weights 'int4' is unknown; known are bf16, fp8"),
        (
            "h100",
            LLAMA_8B,
            {"tensor_parallel": 3},
            "does not divide the 32 attention heads.*possible are 1, 2, 4, 8, 16",
        ),
    ],
)
def test_what_is_unknown_is_refused_with_the_nearest_that_is_known(
    gpu: str, model: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(HardwareError, match=message):
        step_cost_for(gpu, model, **options)


def test_names_may_be_written_as_people_write_them() -> None:
    assert find_gpu("H100") == find_gpu("h100_sxm") == find_gpu("h100-sxm")
    assert find_model("llama-3.1-8b-instruct") == find_model(LLAMA_8B)


@pytest.mark.parametrize("name", gpu_names())
def test_every_data_sheet_is_complete_and_has_its_source(name: str) -> None:
    card = find_gpu(name)
    assert card.source
    assert card.price_date
    assert 0 < card.price_per_hour_usd < 20
    assert 0 < card.memory_ratio < 1
    assert kv_blocks_for(name, "windtunnel/tiny") > 100_000


def test_a_hugging_face_config_is_read_from_its_path(tmp_path: Path) -> None:
    fields = {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "head_dim": None,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(fields))
    assert find_model(str(path)).parameters == find_model(str(tmp_path)).parameters == find_model(LLAMA_8B).parameters


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "expected an object"),
        ('{"hidden_size": 8}', "num_attention_heads is missing"),
        ('{"hidden_size": "wide"}', "hidden_size is 'wide'; expected a positive whole number"),
        ('{"hidden_size": 8, "num_attention_heads": 64}', "head_dim"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(HardwareError, match=message):
        read_model(path)


def test_a_config_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match="No such file"):
        find_model(str(tmp_path / "absent.json"))
