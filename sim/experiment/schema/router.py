"""What stands before the replicas: the gateway with its limits, and the router with its policy, queue and retries."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from sim.experiment.schema.block import Block, Count, Fraction, Name, Positive, Share
from sim.experiment.units import Duration, Rate


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
    options: dict[str, Any] = Field(default={})

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
    weights: dict[Name, Share] = Field(default={})
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
