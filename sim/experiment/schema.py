"""The scenario file as types: one model per block of the YAML. Line numbers live in `scenario`, units in `units`.

Every duration is held in seconds and every rate in requests per second, whatever unit the file used.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from sim.experiment.units import DURATION_SCHEMA, Duration, Rate, written

Positive = Annotated[int, Field(gt=0, strict=True)]
Count = Annotated[float, Field(ge=0, strict=True)]
"""Tokens or turns; a distribution of them may have a mean between two whole numbers."""

Share = Annotated[float, Field(gt=0, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
Name = Annotated[str, Field(pattern=r"^[\w-]+$")]
"""Of a class or a tenant: it stands in expectations, headers and file columns."""

LAYOUT_KEYS = ("tensor_parallel", "pipeline_parallel", "data_parallel", "expert_parallel")

DISTRIBUTION_NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "constant": (("mean",),),
    "uniform": (("min", "max"),),
    "normal": (("mean", "stddev"),),
    "lognormal": (("p50", "p95"), ("mean", "stddev")),
    "exponential": (("mean",),),
    "empirical": (("values",), ("values", "weights")),
}
"""What must be given for each kind of distribution; several ways are alternatives."""


class Block(BaseModel):
    """A block of the scenario file: immutable, and no key beyond those declared."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Distribution(Block):
    """Counts drawn at random, clipped to [min, max]. A bare number in the file means `constant`."""

    kind: Literal["constant", "uniform", "normal", "lognormal", "exponential", "empirical"] = "constant"
    mean: Count | None = None
    stddev: Count | None = None
    p50: Count | None = None
    """Median of a lognormal."""
    p95: Count | None = None
    min: Count | None = None
    max: Count | None = None
    values: tuple[Count, ...] | None = None
    """Of `empirical`: what is drawn, each as likely as its weight says."""
    weights: tuple[Share, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_number(cls, given: Any) -> Any:
        return given if isinstance(given, dict | Distribution) else {"kind": "constant", "mean": given}

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Distribution:
        ways = DISTRIBUTION_NEEDS[self.kind]
        given = {name for name, value in self if value is not None} - {"kind"}
        if not any(given - {"min", "max"} == set(way) - {"min", "max"} and set(way) <= given for way in ways):
            wanted = ", or ".join(" and ".join(way) for way in ways)
            raise ValueError(
                f"a {self.kind} distribution needs {wanted}; given: {', '.join(sorted(given)) or 'nothing'}"
            )
        if self.kind == "lognormal" and not (self.p50 or self.mean):
            raise ValueError("a lognormal distribution lies above 0; expected p50 or mean above 0")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        if self.p50 is not None and self.p95 is not None and self.p50 > self.p95:
            raise ValueError(f"p50 {self.p50:g} is above p95 {self.p95:g}")
        if self.weights is not None and len(self.weights) != len(self.values or ()):
            raise ValueError(f"{len(self.weights)} weights for {len(self.values or ())} values")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "number", "minimum": 0}, handler(core)]}


class Times(Distribution):
    """As a distribution of counts, but of durations, each with its unit. A bare duration means `constant`."""

    mean: Duration | None = None
    stddev: Duration | None = None
    p50: Duration | None = None
    p95: Duration | None = None
    min: Duration | None = None
    max: Duration | None = None
    values: tuple[Duration, ...] | None = None

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [DURATION_SCHEMA, handler(core)]}


class Trace(Block):
    """A recorded stream. `file` is relative to the scenario file."""

    file: str
    """CSV or JSON lines, plain or gzipped."""
    format: Literal["azure", "mooncake", "burstgpt", "servegen"]
    window: tuple[Duration, Duration] | None = None
    """The part of the recording to fly, from and to; times count from its first request."""
    rate_scale: Share = 1.0
    """Time is compressed by this factor: the shape stays, the rate scales."""
    thin: Annotated[float, Field(gt=0, le=1, strict=True)] = 1.0
    """Each request (each session, where the trace has them) is kept with this probability."""
    dequantise: Literal["uniform", "none"] = "uniform"
    """What becomes of coarse time stamps: requests spread evenly over their tick, or left in volleys."""


class Stage(Block):
    """A stretch of constant or linearly changing rate."""

    lasts: Duration
    rate: Rate
    to_rate: Rate | None = None
    """Where the rate has gone by the stage's end, in a straight line; none: it stays."""


class Arrivals(Block):
    """A generated stream of arrivals."""

    process: Literal["constant", "poisson", "gamma", "stages", "diurnal"]
    rate: Rate | None = None
    """Of `diurnal`: the mean rate that the curve is scaled to; none: the rates as they stand in the file."""
    cv: Share = 1.0
    """Coefficient of variation of the gaps, 1 being Poisson's (gamma, stages, diurnal)."""
    stages: tuple[Stage, ...] = ()
    curve: str | None = None
    """CSV of t_s,total_rate_rps (ServeGen), relative to the scenario file."""
    window: tuple[Duration, Duration] | None = None
    """The part of the curve to fly."""
    compress: Share = 1.0
    """Fly the curve this many times faster; rates stay, so a day in two hours has a twelfth of its requests."""


class Lengths(Block):
    """Token counts of prompts and answers."""

    input: Distribution
    output: Distribution


class Sessions(Block):
    """Multi-turn conversations: each arrival starts one; a turn's prompt contains all turns before it."""

    turns: Distribution
    think_time: Times
    """Between the end of an answer, as estimated, and the next turn."""
    seconds_per_token: Duration = 0.02
    """The estimate of answer time that think time starts from; fixed, so that arrivals are the same on every rung."""


class SharedPrefixes(Block):
    """System prompts shared between requests: `count` prefixes of `tokens`, popularity by Zipf's law."""

    count: Positive
    tokens: Positive
    """Of each prefix, on top of the prompt's own."""
    share: Fraction = 1.0
    """Of the requests (of the sessions, where there are any) that begin with one."""
    zipf: Count = 1.0
    """The prefix of rank k is drawn in proportion to 1 / k^zipf; 0: all alike."""


class Slo(Block):
    """What a request of this class must meet to be good. TTFT and E2E count from the scheduled time."""

    ttft: Duration | None = None
    tpot: Duration | None = None
    e2e: Duration | None = None
    attainment: Annotated[float, Field(gt=0, le=1, strict=True)] = 0.95
    """The share of all requests of the class that must be good."""


class ClientRetry(Block):
    """What clients do when a request brought no token: they send it again, as a new request. Off unless given.

    First sends stay open loop: nobody waits for an answer before sending the next request. What broke off after its
    first token is not sent again, nor what was refused as wrong (4xx, but for 408 and 429).
    """

    max_sends: Annotated[int, Field(gt=1, strict=True)] = 3
    """Of one request, the first included."""
    after: Annotated[tuple[Literal["timed_out", "refused", "failed"], ...], Field(min_length=1)] = (
        "timed_out",
        "refused",
        "failed",
    )
    """The ends of a send after which there is another one."""
    backoff: Duration = 0.0
    """From a send's end to the next send; 0: at once."""
    multiplier: Annotated[float, Field(ge=1, strict=True)] = 2.0
    """What each further backoff is of the one before it."""
    max_backoff: Duration = 60.0
    jitter: Fraction = 0.0
    """The share of a backoff that is left to chance: 0.5 draws between half of it and all of it."""
    budget: Fraction | None = None
    """Resends as a share of the class's first sends, beyond which clients give up; None: no bound."""

    @model_validator(mode="after")
    def _has_a_backoff_to_change(self) -> ClientRetry:
        if self.max_backoff < self.backoff:
            raise ValueError(f"max_backoff {written(self.max_backoff)} is below backoff {written(self.backoff)}")
        fields = type(self).model_fields
        idle = [name for name in ("multiplier", "jitter") if getattr(self, name) != fields[name].default]
        if idle and not self.backoff:
            raise ValueError(f"{idle[0]} changes a backoff, and there is none; expected `backoff` with it")
        return self


class TrafficClass(Block):
    """A kind of request with an SLO and a priority (larger is more important)."""

    name: Name
    share: Share = 1.0
    """Of the traffic, relative to the other classes'."""
    priority: Annotated[int, Field(strict=True)] = 0
    slo: Slo = Slo()
    lengths: Lengths | None = None
    """Instead of the workload's, or of the trace's."""
    model: str | None = None
    """Which pool's model it asks for; None: the first pool's."""
    deadline: Duration | None = None
    """How long its clients wait for the first token, after each send, before they hang up."""
    retry: ClientRetry | None = None
    """None: a client sends once, and takes what it gets."""


class Tenant(Block):
    """A customer: a share of the traffic, and a key at the gateway."""

    name: Name
    share: Share = 1.0


class WorkloadBlock(Block):
    """Either `trace` or `arrivals`; the rest says what the requests are."""

    trace: Trace | None = None
    arrivals: Arrivals | None = None
    duration: Duration | None = None
    """How long arrivals go on; of a trace: at most this much of its window."""
    lengths: Lengths | None = None
    sessions: Sessions | None = None
    shared_prefixes: SharedPrefixes | None = None
    classes: tuple[TrafficClass, ...] = (TrafficClass(name="default"),)
    tenants: tuple[Tenant, ...] = (Tenant(name="default"),)
    max_requests: Positive | None = None
    """The workload is cut after this many."""


class RateLimit(Block):
    """A limit of the gateway for one tenant, or `*` for each tenant without its own."""

    tenant: str = "*"
    requests: Rate | None = None
    burst: Positive | None = None
    tokens: Rate | None = None
    """Tokens per second, input and output together."""
    token_burst: Positive | None = None
    concurrency: Positive | None = None


class Gateway(Block):
    """llm-api. `overhead` is its own time per request."""

    replicas: Positive = 1
    rate_limits: tuple[RateLimit, ...] = ()
    overhead: Duration = 0.001


class Policy(Block):
    """A routing policy by name, or `file.py:Class` of the user's own (relative to the scenario file)."""

    name: str
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string"}, handler(core)]}


class Queue(Block):
    """The router's queue per pool."""

    max_requests: Annotated[int, Field(ge=0, strict=True)] = 1000
    max_wait: Duration | None = None
    max_in_flight_per_endpoint: Positive | None = None
    """Dispatch no more than this to one endpoint; None: all at once, the engines queue."""
    fairness: Literal["in_flight", "tokens", "none"] = "in_flight"
    """Whose turn it is among equals in priority: the tenant with the fewest requests in flight, the tenant that has had
    the fewest tokens by its weight, or whoever came first."""
    weights: dict[Name, Share] = {}
    """Of tenants, for `fairness: tokens`; 1 for who is not named."""


class Retry(Block):
    """Retries before the first token only, on another endpoint, within a share of all requests."""

    max_attempts: Positive = 3
    budget: Fraction = 0.1
    min_per_second: Count = 1.0
    """Retries that are always allowed, whatever the budget says."""


class Ejection(Block):
    """An endpoint with this many consecutive failed requests is left out for a while; never the last one."""

    consecutive_failures: Positive = 3
    base: Duration = 5.0
    max: Duration = 60.0


class Router(Block):
    """The router and what it decides by."""

    policy: Policy = Policy(name="least_in_flight")
    """In the file also as a bare string."""
    scrape_interval: Duration = 1.0
    health_interval: Duration = 2.0
    queue: Queue = Queue()
    retry: Retry = Retry()
    ejection: Ejection = Ejection()
    overhead: Duration = 0.001


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
    settings: dict[str, Any] = {}
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


class Network(Block):
    """One-way delay of a hop: client–gateway, gateway–router, router–replica."""

    hop: Duration = 0.0002


class Cluster(Block):
    """What is flown through."""

    gateway: Gateway = Gateway()
    router: Router = Router()
    pools: Annotated[tuple[Pool, ...], Field(min_length=1)]
    network: Network = Network()


class Fault(Block):
    """Something that goes wrong at a time. `target` is a replica (`vllm-2`), a node (`node-0`) or a pool."""

    at: Duration
    kind: Literal["replica_crash", "node_loss", "slow_replica", "stall", "partition", "error_burst"]
    target: str
    lasts: Duration
    factor: Annotated[float, Field(gt=1, strict=True)] | None = None
    """slow_replica: how many times slower a step is."""
    share: Annotated[float, Field(gt=0, le=1, strict=True)] | None = None
    """error_burst: the share of requests answered 500."""


class Measure(Block):
    """What is reported."""

    warm_up: Duration = 0.0
    """Requests scheduled before this are flown and not measured."""
    percentiles: tuple[Annotated[float, Field(gt=0, lt=100, strict=True)], ...] = (50.0, 90.0, 95.0, 99.0)
    sample_interval: Duration = 1.0


class Plan(Block):
    """The search space of `windtunnel plan`."""

    vary: dict[str, Any]
    """Keys of a pool or the router (`gpu`, `max_num_seqs`, `queue.max_requests`, `cluster.pools.NAME.replicas`), each
    with a list of values or a range such as 1..16."""
    minimise: Literal["cost_per_hour", "gpus"] = "cost_per_hour"


class Scenario(Block):
    """One scenario: who comes, what they meet, what goes wrong, and what counts as good."""

    windtunnel: Literal[1]
    """Version of the scenario language."""
    name: str
    about: str = ""
    """What this scenario shows, in a sentence."""
    seed: Annotated[int, Field(ge=0, strict=True)] = 0
    """Of all chance in the run: the same scenario and seed give the same record."""
    workload: WorkloadBlock
    cluster: Cluster
    faults: tuple[Fault, ...] = ()
    measure: Measure = Measure()
    expect: tuple[str, ...] = ()
    """Verdicts, such as `chat.slo_attainment >= 0.95`, `all.error_rate < 0.01`, `chat.ttft_p95 <= 800ms`."""
    plan: Plan | None = None


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a scenario file, with defaults as a file would have them."""
    document = Scenario.model_json_schema()
    for block in [document, *document["$defs"].values()]:
        for about in _fields(block):
            is_duration = about.get("examples") == DURATION_SCHEMA["examples"]
            if is_duration and isinstance(about.get("default"), float):
                about["default"] = written(about["default"])
            # a default that is a whole block is what leaving it out means; it would not validate in the file's units
            if isinstance(about.get("default"), dict):
                del about["default"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}


def _fields(block: JsonSchemaValue) -> list[dict[str, Any]]:
    ways = [block, *block.get("anyOf", [])]
    return [about for way in ways for about in way.get("properties", {}).values()]
