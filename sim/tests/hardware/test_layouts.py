"""Pipeline, data and expert parallelism: laws of what a layout holds, costs and takes, and what cannot be laid out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reference.engine import StepCost
from sim.cluster.machines import machine_for
from sim.experiment.schema import Pool
from sim.hardware import (
    HardwareError,
    find_gpu,
    find_model,
    gpu_names,
    kv_blocks_for,
    model_names,
    step_cost_for,
    weight_bytes_per_gpu,
)
from sim.hardware.pipeline import with_pipeline

LLAMA_70B = "meta-llama/Llama-3.1-70B-Instruct"
MIXTURES = [name for name in model_names() if find_model(name).num_experts]

degrees = st.sampled_from([1, 2, 4, 8])


@st.composite
def layouts(draw: st.DrawFn) -> tuple[str, dict[str, int]]:
    """A model and a layout that it can be cut into."""
    model = draw(st.sampled_from(model_names()))
    shape = find_model(model)
    layout = {"tensor_parallel": draw(degrees), "pipeline_parallel": draw(degrees)}
    assume(shape.num_heads % layout["tensor_parallel"] == 0 and shape.num_layers % layout["pipeline_parallel"] == 0)
    if shape.num_experts:
        layout["data_parallel"] = draw(degrees)
        gpus = layout["tensor_parallel"] * layout["data_parallel"]
        if shape.num_experts % gpus == 0 and draw(st.booleans()):
            layout["expert_parallel"] = gpus
    return model, layout


def blocks(gpu: str, model: str, layout: dict[str, int]) -> int:
    try:
        return kv_blocks_for(gpu, model, **layout)
    except HardwareError:
        return 0


def decode(cost: StepCost, batch: int, context: int) -> float:
    fixed, per_context_token = cost.decode_affine(batch)
    return fixed + per_context_token * batch * context


def prefill(cost: StepCost, tokens: int) -> float:
    return cost.seconds(1, tokens, 0, tokens, tokens * tokens / 2)


@given(layouts())
def test_the_weights_of_all_ranks_together_are_the_model_and_its_copies(given_: tuple[str, dict[str, int]]) -> None:
    model, layout = given_
    shape = find_model(model)
    stages, data = layout["pipeline_parallel"], layout.get("data_parallel", 1)
    gpus = layout["tensor_parallel"] * data
    held = sum(gpus * weight_bytes_per_gpu(model, **layout, stage=stage) for stage in range(stages))
    experts = shape.num_layers * shape.expert_parameters * max(1, shape.num_experts)
    tied_twice = shape.vocab_size * shape.hidden_size if shape.ties_embeddings and stages > 1 else 0
    assert held == pytest.approx(2 * (experts + data * (shape.parameters - experts + tied_twice)))


@settings(max_examples=60, deadline=None)
@given(
    layouts(), st.sampled_from(gpu_names()), st.sampled_from(["tensor_parallel", "pipeline_parallel", "data_parallel"])
)
def test_twice_the_gpus_never_hold_less_kv(given_: tuple[str, dict[str, int]], gpu: str, key: str) -> None:
    model, layout = given_
    shape = find_model(model)
    wider = layout | {key: 2 * layout.get(key, 1)}
    assume(key != "data_parallel" or shape.num_experts)
    assume(shape.num_heads % wider["tensor_parallel"] == 0 and shape.num_layers % wider["pipeline_parallel"] == 0)
    if layout.get("expert_parallel", 1) > 1:
        wider["expert_parallel"] = wider["tensor_parallel"] * wider["data_parallel"]
        assume(shape.num_experts % wider["expert_parallel"] == 0)
    assert blocks(gpu, model, wider) >= blocks(gpu, model, layout)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(gpu_names()), st.sampled_from(model_names()), st.sampled_from(["vllm", "trt"]))
def test_degrees_of_one_change_nothing(gpu: str, model: str, engine: str) -> None:
    ones = {"pipeline_parallel": 1, "data_parallel": 1, "expert_parallel": 1}
    assert step_cost_for(gpu, model, engine=engine, **ones) == step_cost_for(gpu, model, engine=engine)
    assert with_pipeline(step_cost_for(gpu, model), 1, 1.0, 1.0) == step_cost_for(gpu, model)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(gpu_names()),
    st.sampled_from([2, 4]),
    st.integers(1, 200),
    st.integers(1, 4000),
)
def test_a_full_pipeline_decodes_as_many_times_the_sequences_as_it_has_stages_in_a_step_and_its_hops(
    gpu: str, stages: int, batch: int, context: int
) -> None:
    card, shape = find_gpu(gpu), find_model(LLAMA_70B)
    one = step_cost_for(gpu, LLAMA_70B, weights="fp8")
    many = step_cost_for(gpu, LLAMA_70B, weights="fp8", pipeline_parallel=stages)
    hop = card.all_reduce_seconds + batch * 2 * shape.hidden_size / card.link_bytes_per_second
    assert decode(many, stages * batch, context) == pytest.approx(decode(one, batch, context) + (stages - 1) * hop)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(gpu_names()), st.sampled_from(model_names()), st.integers(1, 8192), st.integers(1, 400))
def test_a_pipeline_answers_nobody_sooner(gpu: str, model: str, tokens: int, context: int) -> None:
    one, two = step_cost_for(gpu, model), step_cost_for(gpu, model, pipeline_parallel=2)
    assume(not find_model(model).num_experts or tokens > 256)  # fewer meet only some experts, see sim.hardware.pipeline
    assert prefill(two, tokens) >= prefill(one, tokens)
    assert decode(two, 1, context) >= one.decode_affine(1)[0]


def test_a_pipeline_pays_a_long_prompt_what_it_costs_and_its_hops_no_more() -> None:
    one = step_cost_for("h100-sxm", LLAMA_70B)
    four = step_cost_for("h100-sxm", LLAMA_70B, pipeline_parallel=4)
    assert prefill(four, 8192) == pytest.approx(prefill(one, 8192), rel=0.05)


def test_spreading_experts_shortens_a_step_and_tokens_cross_the_links() -> None:
    mixture = "mistralai/Mixtral-8x7B-Instruct-v0.1"
    sliced = step_cost_for("h100-sxm", mixture, tensor_parallel=4)
    whole = step_cost_for("h100-sxm", mixture, tensor_parallel=4, expert_parallel=4)
    alone = step_cost_for("h100-sxm", mixture)
    assert decode(whole, 64, 500) < decode(alone, 64, 500)
    card, shape = find_gpu("h100-sxm"), find_model(mixture)
    # two of eight experts lie on 1.75 of four GPUs, 0.75 of that elsewhere; an all-reduce passes 1.5 times
    away = 4 * (1 - 0.75**2) * 0.75
    passes = (2 * away / 4 - 1.5) * shape.num_layers * 2 * shape.hidden_size / card.link_bytes_per_second
    assert whole.seconds(0, 16384, 0, 0, 0.0) - sliced.seconds(0, 16384, 0, 0, 0.0) == pytest.approx(
        16384 * passes + shape.num_layers * card.all_reduce_seconds
    )


def test_data_parallel_attention_repeats_what_is_read_and_shares_what_is_attended() -> None:
    mixture = "Qwen/Qwen3-30B-A3B"
    one = step_cost_for("h100-sxm", mixture, tensor_parallel=4, expert_parallel=4)
    apart = step_cost_for("h100-sxm", mixture, data_parallel=4, expert_parallel=4)
    assert apart.per_context_token == pytest.approx(one.per_context_token)
    assert apart.seconds(0, 1, 0, 0, 0.0) > one.seconds(0, 1, 0, 0, 0.0)
    assert blocks("h100-sxm", mixture, {"data_parallel": 4, "expert_parallel": 4}) > blocks(
        "h100-sxm", mixture, {"tensor_parallel": 1}
    )


@pytest.mark.parametrize(
    ("model", "layout", "message"),
    [
        (LLAMA_70B, {"tensor_parallel": 3}, r"tensor_parallel 3 does not divide the 64 attention heads"),
        (LLAMA_70B, {"pipeline_parallel": 3}, r"pipeline_parallel 3 does not divide the 80 layers.*1, 2, 4, 5, 8"),
        (LLAMA_70B, {"expert_parallel": 2}, r"expert_parallel 2: meta-llama/Llama-3.1-70B-Instruct is no mixture"),
        (LLAMA_70B, {"data_parallel": 2}, r"data_parallel 2: .* is no mixture of experts; give it more replicas"),
        (MIXTURES[0], {"tensor_parallel": 4, "expert_parallel": 2}, r"expert_parallel 2 is not.*= 4\); expected that"),
        (MIXTURES[-1], {"tensor_parallel": 16, "expert_parallel": 16}, r"expert_parallel 16 does not divide the 8 exp"),
    ],
)
def test_what_cannot_be_cut_so_is_refused_by_name(model: str, layout: dict[str, int], message: str) -> None:
    with pytest.raises(HardwareError, match=message):
        step_cost_for("h100-sxm", model, **layout)


def test_a_replica_is_priced_by_all_of_its_gpus_and_may_need_several_to_fit() -> None:
    def machine(**layout: Any) -> Any:
        return machine_for(Pool.model_validate({"model": LLAMA_70B, "gpu": "h100-sxm", "replicas": 1} | layout))

    with pytest.raises(HardwareError, match="does not fit on 1 × h100-sxm"):
        machine()
    pair, four = machine(pipeline_parallel=4), machine(pipeline_parallel=4, tensor_parallel=2)
    assert four.price_per_hour == 2 * pair.price_per_hour == 8 * find_gpu("h100-sxm").price_per_hour_usd
    assert four.settings.num_blocks > 2 * pair.settings.num_blocks
