"""A whole scenario: who comes, what they meet, what goes wrong, what is measured; and its JSON Schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.json_schema import JsonSchemaValue

from sim.experiment.schema.block import Block
from sim.experiment.schema.pool import Pool
from sim.experiment.schema.router import Gateway, Router
from sim.experiment.schema.workload import WorkloadBlock
from sim.experiment.units import DURATION_SCHEMA, Duration, written


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
