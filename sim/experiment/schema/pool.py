"""Replicas of one kind: model, GPU or step cost, engine settings, layout, start, autoscaling, disaggregation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sim.experiment.schema.block import Block, Count, Fraction, Positive, Share
from sim.experiment.schema.router import Policy
from sim.experiment.units import Duration

LAYOUT_KEYS = ("tensor_parallel", "pipeline_parallel", "data_parallel", "expert_parallel")


class Autoscale(Block):
    """Target tracking as the HorizontalPodAutoscaler does it."""

    min_replicas: Positive = 1
    max_replicas: Positive
    metric: Literal["in_flight", "queue_depth", "kv_usage", "running"] = "in_flight"
    target: Share
    """Of the metric, per replica."""
    interval: Duration = 15.0
    metrics_delay: Duration = 0.0
    """How old the readings are that it decides by: scraping, averaging, the way through a metrics server."""
    tolerance: Fraction = 0.1
    stabilisation: Duration = 300.0
    """Scale-down waits for the highest recommendation of this window."""


class ExplicitStepCost(Block):
    """Step time given outright instead of a GPU: base + per_prefill_token·p + per_sequence·b + per_context_token·s."""

    base: Duration
    per_prefill_token: Duration = 0.0
    per_sequence: Duration = 0.0
    per_context_token: Duration = 0.0


class Speculative(Block):
    """Speculative decoding: a draft proposes tokens, the model checks them in one step and keeps what agrees."""

    tokens: Positive
    """Proposed per step."""
    acceptance: Fraction
    """The probability that a proposed token agrees, given that those before it did."""
    draft: Duration = 0.0
    """What a proposed token costs the step: 0 for n-gram lookup, the draft model's own step otherwise."""


class Prefill(Block):
    """How prefill replicas differ from their pool's decode replicas; what is not given is the pool's."""

    gpu: str | None = None
    step_cost: ExplicitStepCost | None = None
    tensor_parallel: Positive | None = None
    pipeline_parallel: Positive | None = None
    data_parallel: Positive | None = None
    expert_parallel: Positive | None = None
    max_num_seqs: Positive | None = None
    max_num_batched_tokens: Positive | None = None
    num_gpu_blocks: Positive | None = None
    """None: the pool's, or what the GPU has left where any of the above tells another machine."""


class Disaggregated(Block):
    """Prompts are computed by replicas of their own; the pool's `replicas` fetch their KV and decode.

    The router's policy picks the prefill replica, since that is where prefixes are cached.
    """

    prefill_replicas: Positive
    """Named `<pool>-prefill-<ordinal>`."""
    prefill: Prefill = Prefill()
    decode_policy: Policy = Policy(name="least_in_flight")
    """Picks the decode replica, once the prompt is computed."""
    first_token: Literal["prefill", "decode"] = "prefill"
    """Who gives the first token: the prefill replica as soon as it has it, or the decode replica after the transfer,
    from the last token of the prompt, as vLLM's NixlConnector does it."""
    transfer_gb_per_s: Share = 25.0
    """Of each prefill replica's link, in 10^9 bytes; one transfer at a time, first come first served."""
    transfer_latency: Duration = 0.001
    """From asking for KV to its coming, beside its bytes."""
    kv_bytes_per_token: Positive | None = None
    """None: by the model's shape and `kv_cache`; must be given for a model that is not in the catalogue."""


class Startup(Block):
    """What a cold start is made of. Gigabytes are of 10^9 bytes."""

    scheduling: Duration = 0.0
    """Until a node takes a new replica, be it that one has to be made first. One that crashed keeps its seat."""
    image_gb: Count = 10.0
    """Pulled onto a node that has not got it; the nodes of the first replicas have."""
    pull_gb_per_s: Share = 0.25
    weights_gb: Share | None = None
    """None: from the model's shape and the precision of its weights."""
    load_gb_per_s: Share = 2.0
    """From storage into the GPU."""
    readiness: Duration = 20.0
    """Of the engine after that, up to a first token."""


class Worker(Block):
    """A real model server for the replicas of a pool, where processes run; the simulator flies the pool as it is."""

    kind: Literal["bert", "vllm", "trt"]
    model_dir: str
    """Its weights, from the scenario's directory."""
    settings: dict[str, Any] = Field(default={})
    """More of that worker's settings, by the names that its --help gives."""
    ready_within: Duration = 900.0
    """It is given up when it has not computed anything by then."""


class Pool(Block):
    """The replicas of one model. Names of replicas are `<name>-<ordinal>`."""

    name: str | None = None
    """Default: the engine's name."""
    model: str
    engine: Literal["vllm", "trt"] = "vllm"
    gpu: str | None = None
    step_cost: ExplicitStepCost | None = None
    """Instead of `gpu`, for teaching and tests."""
    profile: str | None = None
    """Measured step times: the YAML that `windtunnel calibrate` wrote, from the scenario's directory, or `operators`
    for those fitted from operator tables that come with the package. `gpu` beside it gives memory and price."""
    weights: Literal["bf16", "fp8"] = "bf16"
    kv_cache: Literal["bf16", "fp8"] = "bf16"
    tensor_parallel: Positive = 1
    """GPUs over which each layer of a replica is split."""
    pipeline_parallel: Positive = 1
    """Stages of a replica, each with an equal part of the layers."""
    data_parallel: Positive = 1
    """Of a mixture of experts: how often a replica repeats its attention, each time for sequences of its own."""
    expert_parallel: Positive = 1
    """Of a mixture of experts: GPUs over which whole experts are spread, tensor × data parallel; 1: slices of each."""
    speculative: Speculative | None = None
    """None: every step brings a sequence one token."""
    disaggregated: Disaggregated | None = None
    """None: a replica computes prompts and answers."""
    replicas: Positive
    worker: Worker | None = None
    """None: the emulated engine."""
    replicas_per_node: Positive = 1
    """Replicas that die together when their node does."""
    max_num_seqs: Positive = 256
    max_num_batched_tokens: Positive = 2048
    max_model_len: Positive | None = None
    block_size: Positive = 16
    num_gpu_blocks: Positive | None = None
    """KV blocks of a replica; None: from what the GPU has left after the weights."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1, strict=True)] = 0.9
    prefix_caching: bool = True
    autoscale: Autoscale | None = None
    cold_start: Duration = 60.0
    startup: Startup | None = None
    """The parts of a cold start, instead of its one figure."""

    @property
    def num_gpus(self) -> int:
        """GPUs of one replica."""
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel

    @property
    def layout(self) -> dict[str, int]:
        """How the GPUs of a replica share the model, by key."""
        return {key: getattr(self, key) for key in LAYOUT_KEYS}

    @model_validator(mode="after")
    def _has_one_cold_start(self) -> Pool:
        if self.startup is not None and "cold_start" in self.model_fields_set:
            raise ValueError("cold_start and startup both say how long a start takes; expected one of them")
        return self
