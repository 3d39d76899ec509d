"""Who comes: arrivals, lengths, sessions, classes with their SLOs, and tenants."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from sim.experiment.schema.block import Block, Count, Fraction, Name, Positive, Share
from sim.experiment.units import DURATION_SCHEMA, Duration, Rate, written

DISTRIBUTION_NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "constant": (("mean",),),
    "uniform": (("min", "max"),),
    "normal": (("mean", "stddev"),),
    "lognormal": (("p50", "p95"), ("mean", "stddev")),
    "exponential": (("mean",),),
    "empirical": (("values",), ("values", "weights")),
}
"""What must be given for each kind of distribution; several ways are alternatives."""


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
    heeds_retry_after: bool = False
    """Whether a refusal's Retry-After, up to max_backoff, stands in for the backoff, as with openai-python."""
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
