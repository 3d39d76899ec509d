"""What a step costs by roofline: bytes over bandwidth or flops over rate, whichever is longer, and explicit overheads.

Reads data sheets and model shapes, gives the engine's closed form (`reference.engine.StepCost`) and the number of KV
blocks that fit. Knows nothing of scheduling. All of it is per replica, whose GPUs share the model by a `Layout`.
"""

from __future__ import annotations

from dataclasses import replace

from reference.engine import StepCost
from sim.hardware.catalogue import Gpu, HardwareError, Model, find_engine, find_gpu, find_model
from sim.hardware.layout import Layout
from sim.hardware.pipeline import with_pipeline

_BYTES = {"bf16": 2, "fp8": 1}
_ACTIVATION_BYTES = 2
_LARGEST_STEP = 16_384
"""Tokens up to which the token time has knots; beyond, its last slope goes on."""
_RUNTIME_BYTES = 0.6e9
"""CUDA context, NCCL and workspace buffers, per GPU."""


def step_cost_for(
    gpu: str,
    model: str,
    *,
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    data_parallel: int = 1,
    expert_parallel: int = 1,
    weights: str = "bf16",
    kv_cache: str = "bf16",
    engine: str = "vllm",
) -> StepCost:
    """Give the step time of a replica whose GPUs share the model as `Layout` says.

    Raises:
        HardwareError: a name is unknown, or the model cannot be divided so.
    """
    card, shape, efficiency = find_gpu(gpu), find_model(model), find_engine(engine)
    layout = _layout(shape, tensor_parallel, pipeline_parallel, data_parallel, expert_parallel)
    weight_bytes, kv_bytes = _precision(weights, "weights"), _precision(kv_cache, "kv_cache")
    flops = _flops(card, weights) * card.compute_ratio
    bandwidth = card.hbm_bytes_per_second * card.memory_ratio
    head_parameters = shape.vocab_size * shape.hidden_size
    gpus = layout.stage_gpus
    cost = StepCost(
        overhead=efficiency.step_overhead_seconds
        + shape.num_layers * efficiency.layer_overhead_seconds
        + shape.num_layers * _collectives(layout) * card.all_reduce_seconds
        + head_parameters * weight_bytes / tensor_parallel / bandwidth,
        token_seconds=_token_seconds(card, shape, weight_bytes, layout, flops, bandwidth),
        per_sequence=efficiency.sequence_overhead_seconds + 2 * head_parameters / gpus / flops,
        per_context_token=_kv_bytes_per_token(shape, kv_bytes, tensor_parallel)
        / data_parallel
        / (card.hbm_bytes_per_second * efficiency.kv_ratio),
        per_prefill_pair=_pair_flops(shape) / gpus / (card.bf16_flops * efficiency.attention_ratio),
    )
    # a hop's floor is taken as that of a small all-reduce: one kernel and one way over the link
    hop = shape.hidden_size * _ACTIVATION_BYTES / data_parallel / card.link_bytes_per_second
    return with_pipeline(cost, pipeline_parallel, card.all_reduce_seconds, hop)


def kv_blocks_for(
    gpu: str,
    model: str,
    *,
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    data_parallel: int = 1,
    expert_parallel: int = 1,
    weights: str = "bf16",
    kv_cache: str = "bf16",
    block_size: int = 16,
    gpu_memory_utilization: float = 0.9,
    max_num_batched_tokens: int = 2048,
    max_num_seqs: int = 256,
) -> int:
    """Count the KV blocks that fit beside the weights and the activations of the largest step.

    A block lies on all stages, each with its layers' part of it; every rank of data parallelism has blocks of its own,
    which are counted together: sequences are taken as spread evenly.

    Raises:
        HardwareError: a name is unknown, or the model does not fit; the message says what is needed and what would do.
    """
    card, shape = find_gpu(gpu), find_model(model)
    layout = _layout(shape, tensor_parallel, pipeline_parallel, data_parallel, expert_parallel)
    weight_bytes, kv_bytes = _precision(weights, "weights"), _precision(kv_cache, "kv_cache")
    available = card.memory_bytes * gpu_memory_utilization
    needed = _resident_bytes(shape, weight_bytes, layout, max_num_batched_tokens, max_num_seqs)
    block_bytes = block_size * _kv_bytes_per_token(shape, kv_bytes, tensor_parallel) / pipeline_parallel
    blocks = int((available - needed) / block_bytes)
    if blocks < 1:
        raise HardwareError(
            f"{shape.name} ({weights}) does not fit on {layout.num_gpus} × {card.name}: it needs "
            f"{(needed + block_bytes) / 1e9:.1f} GB per GPU, {available / 1e9:.1f} GB are available "
            f"({gpu_memory_utilization:.0%} of {card.memory_bytes / 1e9:.1f} GB); "
            + _what_would_fit(card, shape, weights, layout, available, max_num_batched_tokens, max_num_seqs)
        )
    return blocks * data_parallel


def price_per_hour_usd(gpu: str, num_gpus: int = 1) -> float:
    """Give the assumed price of one replica's GPUs per hour."""
    return find_gpu(gpu).price_per_hour_usd * num_gpus


def kv_bytes_per_token(model: str, *, kv_cache: str = "bf16") -> int:
    """Give the bytes of keys and values that one token leaves in the cache, all layers and GPUs together."""
    return round(_kv_bytes_per_token(find_model(model), _precision(kv_cache, "kv_cache"), 1))


def weight_bytes_per_gpu(
    model: str,
    *,
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    data_parallel: int = 1,
    expert_parallel: int = 1,
    weights: str = "bf16",
    stage: int = 0,
) -> float:
    """Give the bytes of weights that each GPU of a replica's stage holds, and loads at a cold start."""
    shape = find_model(model)
    layout = _layout(shape, tensor_parallel, pipeline_parallel, data_parallel, expert_parallel)
    return layout.rank_parameters(shape, stage) * _precision(weights, "weights")


def _token_seconds(
    card: Gpu, shape: Model, weight_bytes: int, layout: Layout, flops: float, bandwidth: float
) -> tuple[tuple[float, float], ...]:
    """Matrix products, elementwise kernels and collectives of a step by its tokens, the language-model head apart.

    Elementwise: the activation reads two halves and writes one; norms, residuals and rotary pass the hidden state about
    eight times.
    """
    gpus = layout.stage_gpus
    per_token_flops = 2 * shape.active_parameters / gpus / flops
    elementwise = (3 * shape.intermediate_size * max(1, shape.experts_per_token) + 8 * shape.hidden_size) / gpus
    per_token_bytes = shape.num_layers * elementwise * _ACTIVATION_BYTES / bandwidth
    per_token_link = (
        shape.num_layers
        * _link_passes(shape, layout)
        * shape.hidden_size
        * _ACTIVATION_BYTES
        / card.link_bytes_per_second
    )

    def seconds(tokens: float) -> float:
        read = _bytes_read(shape, tokens, layout.data_parallel) * weight_bytes / gpus / bandwidth
        return max(read, per_token_flops * tokens) + (per_token_bytes + per_token_link) * tokens

    knots = {1.0, float(_LARGEST_STEP), 2.0 * _LARGEST_STEP}
    if shape.num_experts:
        knots |= {float(2**power) for power in range(15)} | {1.5 * 2**power for power in range(1, 14)}
    else:
        crossing = _bytes_read(shape, 1, 1) * weight_bytes / gpus / bandwidth / per_token_flops
        if 1.0 < crossing < _LARGEST_STEP:
            knots.add(crossing)
    return tuple((tokens, seconds(tokens)) for tokens in sorted(knots))


def _bytes_read(shape: Model, tokens: float, data_parallel: int) -> float:
    """Parameters of all layers that a step of `tokens` tokens reads, on all GPUs of a stage together.

    Of E experts, k per token, a step of T tokens meets E·(1 − (1 − k/E)^T) when routing is even. Each rank of data
    parallelism reads its own copy of the rest.
    """
    experts = 1.0
    if shape.num_experts:
        missed = (1 - shape.experts_per_token / shape.num_experts) ** tokens
        experts = shape.num_experts * (1 - missed)
    router = shape.hidden_size * shape.num_experts
    per_layer = data_parallel * shape.attention_parameters + shape.expert_parameters * experts + data_parallel * router
    return shape.num_layers * per_layer


def _collectives(layout: Layout) -> int:
    """Count the collectives of a layer: an all-reduce after attention, and after the MLP one or two all-to-alls."""
    after_attention = 1 if layout.tensor_parallel > 1 else 0
    around_mlp = 2 if layout.expert_parallel > 1 else 1 if layout.stage_gpus > 1 else 0
    return after_attention + around_mlp


def _link_passes(shape: Model, layout: Layout) -> float:
    """How often a token's hidden state crosses a GPU's link in a layer, one direction, per token of the step.

    A ring all-reduce among n GPUs passes it 2·(n − 1)/n times through each. An all-to-all sends each of the 1/n of the
    tokens that a GPU has to those others that hold one of its k experts, and fetches it from them: when routing is
    even a token's experts lie on n·(1 − (1 − 1/n)^k) GPUs, all but 1/n of these elsewhere.
    """
    tensor, gpus = layout.tensor_parallel, layout.stage_gpus
    after_attention = 2 * (tensor - 1) / tensor / layout.data_parallel
    if layout.expert_parallel == 1:
        return after_attention + 2 * (gpus - 1) / gpus
    away = (gpus - 1) * (1 - (1 - 1 / gpus) ** shape.experts_per_token)
    return after_attention + 2 * away / gpus


def _resident_bytes(
    shape: Model, weight_bytes: int, layout: Layout, max_num_batched_tokens: int, max_num_seqs: int
) -> float:
    """Per GPU of the fullest stage: weights, runtime, and activations of the largest step (MLP, residuals, logits)."""
    mlp = 2 * shape.intermediate_size * max(1, shape.experts_per_token) / layout.tensor_parallel
    activations = max_num_batched_tokens * (mlp + 4 * shape.hidden_size) * _ACTIVATION_BYTES
    logits = max_num_seqs * shape.vocab_size * (4 + _ACTIVATION_BYTES)
    parameters = layout.rank_parameters(shape, layout.pipeline_parallel - 1)
    return parameters * weight_bytes + _RUNTIME_BYTES + activations + logits


def _what_would_fit(
    card: Gpu,
    shape: Model,
    weights: str,
    layout: Layout,
    available: float,
    max_num_batched_tokens: int,
    max_num_seqs: int,
) -> str:
    def fits(weight_bytes: int, layout: Layout) -> bool:
        return _resident_bytes(shape, weight_bytes, layout, max_num_batched_tokens, max_num_seqs) < 0.95 * available

    if weights == "bf16" and fits(1, layout):
        return "weights: fp8 would fit"
    for gpus in (2, 4, 8, 16):
        wider = replace(layout, tensor_parallel=gpus, expert_parallel=1)
        if gpus > layout.tensor_parallel and shape.num_heads % gpus == 0 and fits(_BYTES[weights], wider):
            return f"tensor_parallel: {gpus} would fit"
    return f"no tensor_parallel up to 16 of {card.name} would fit"


def _layout(shape: Model, tensor: int, pipeline: int, data: int, expert: int) -> Layout:
    layout = Layout(tensor_parallel=tensor, pipeline_parallel=pipeline, data_parallel=data, expert_parallel=expert)
    layout.check(shape)
    return layout


def _precision(name: str, field: str) -> int:
    if name not in _BYTES:
        raise HardwareError(f"{field} {name!r} is unknown; known are {', '.join(sorted(_BYTES))}")
    return _BYTES[name]


def _flops(card: Gpu, weights: str) -> float:
    return card.fp8_flops if weights == "fp8" and card.fp8_flops is not None else card.bf16_flops


def _kv_bytes_per_token(shape: Model, kv_bytes: int, tensor_parallel: int) -> float:
    """Per GPU; KV heads are split among the GPUs, and repeated when there are fewer of them than GPUs."""
    heads = max(1.0, shape.num_kv_heads / tensor_parallel)
    return 2 * shape.num_layers * heads * shape.head_dim * kv_bytes


def _pair_flops(shape: Model) -> float:
    """Of one query token with one token of context: scores and values, a multiplication and an addition each."""
    return 4 * shape.num_layers * shape.num_heads * shape.head_dim
