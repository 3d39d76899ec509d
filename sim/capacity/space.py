"""The space that `windtunnel plan` searches: what `plan.vary` allows, as options with a price and a bound."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sim.capacity.search import PREFILL_REPLICAS, Candidate, Option, Settings, Skipped
from sim.experiment.disaggregation import prefill_pool
from sim.experiment.errors import InputError
from sim.experiment.profiles import SHIPPED
from sim.experiment.scenario import LoadedScenario
from sim.experiment.schema import Plan, Policy, Pool
from sim.experiment.workload import Workload

if TYPE_CHECKING:
    from sim.cluster.machines import Machine

DEFAULT_VARY: dict[str, Any] = {"replicas": "1..64", "gpu": ["l40s", "a100-sxm", "h100-sxm", "h200-sxm"]}
"""Where the scenario has no `plan` block."""

AFTERWARDS_SECONDS = 60.0
"""Work that an SLO may still forgive after the last arrival."""

_RANGE = re.compile(r"\s*(\d+)\s*\.\.\s*(\d+)\s*")


@dataclass(frozen=True, slots=True)
class Space:
    """What can be flown, and what was left out before the first flight."""

    options: tuple[Option, ...]
    skipped: tuple[Skipped, ...]


def space_of(loaded: LoadedScenario, workload: Workload) -> Space:
    """Read `plan.vary` into options; the first pool of the scenario is the one that is varied.

    Raises:
        InputError: a key that no pool has, a value that it cannot take, or an empty range.
    """
    plan = loaded.scenario.plan or Plan(vary=DEFAULT_VARY)
    vary = dict(plan.vary)
    first, last = _replicas(vary.pop("replicas", "1..64"))
    names = list(vary)
    options, skipped = [], []
    for values in product(*(_choices(name, vary[name]) for name in names)):
        settings: Settings = tuple(zip(names, values, strict=True))
        try:
            options.append(_option(loaded, workload, settings, (first, last), plan.minimise))
        except _DoesNotFit as why:
            skipped.append(Skipped(Option(settings, 0.0, first, last), str(why)))
    if not options:
        reasons = "; ".join(f"{s.option.label}: {s.reason}" for s in skipped)
        raise InputError(f"plan.vary: nothing of it could serve the model: {reasons}")
    return Space(tuple(options), tuple(skipped))


def with_candidate(loaded: LoadedScenario, candidate: Candidate, lost: int = 0) -> LoadedScenario:
    """Return the scenario with a candidate for its first pool, `lost` of its replicas gone."""
    scenario = loaded.scenario
    pool = _pool_with(scenario.cluster.pools[0], candidate.option.settings)
    pool = pool.model_copy(update={"replicas": candidate.replicas - lost, "autoscale": None})
    router = scenario.cluster.router
    for name, value in candidate.option.settings:
        if name == "policy":
            router = router.model_copy(update={"policy": Policy(name=value)})
    pools = (pool, *scenario.cluster.pools[1:])
    cluster = scenario.cluster.model_copy(update={"pools": pools, "router": router})
    return replace(loaded, scenario=scenario.model_copy(update={"cluster": cluster}))


class _DoesNotFit(Exception):
    """An option on which the model cannot run."""


def _option(
    loaded: LoadedScenario, workload: Workload, settings: Settings, bounds: tuple[int, int], minimise: str
) -> Option:
    from reference.engine.sequence import EngineError
    from sim.cluster.machines import machine_for
    from sim.hardware import HardwareError

    pool = _pool_with(loaded.scenario.cluster.pools[0], settings)
    ours = [request for request in workload.requests if request.model == pool.model]
    good_share = min(kind.slo.attainment for kind in loaded.scenario.workload.classes)
    prefill = prefill_pool(pool)
    try:
        machine = machine_for(pool)
        beside = 0.0 if prefill is None else _price_of(prefill, machine_for(prefill), minimise) * prefill.replicas
    except (HardwareError, EngineError) as error:
        raise _DoesNotFit(str(error)) from error
    room = machine.settings.num_blocks * machine.settings.block_size
    longest = max((request.input_tokens + request.output_tokens for request in ours), default=0)
    if room < longest:
        raise _DoesNotFit(f"the KV cache holds {room} tokens, and the longest request has {longest}")
    fewest = max(bounds[0], perfect_replicas(pool, workload, good_share))
    return Option(settings, _price_of(pool, machine, minimise), fewest, bounds[1], beside)


def _price_of(pool: Pool, machine: Machine, minimise: str) -> float:
    price = float(pool.num_gpus) if minimise == "gpus" else machine.price_per_hour
    if price is None:
        raise InputError("plan: the pool names no gpu, so a replica has no price; expected `gpu` or `minimise: gpus`")
    return price


def perfect_replicas(pool: Pool, workload: Workload, good_share: float = 1.0) -> int:
    """Return how many replicas even a perfect system needs: no queue, no idle moment, no context to read.

    A step takes no less than its tokens at the rate of a full budget, and there are no fewer steps than answers filled
    into batches of `max_num_seqs` need. Only `good_share` of the work must be done, and it may go on for a while after
    the last arrival, so this is a bound from below, never an estimate.
    """
    from sim.cluster.machines import machine_for

    machine = machine_for(pool)
    cost, budget, seats = machine.cost, machine.settings.max_num_batched_tokens, machine.settings.max_num_seqs
    per_token = min(cost.seconds(0, tokens, 0, 0, 0.0) / tokens for tokens in (1, budget // 2 or 1, budget))
    ours = [request for request in workload.requests if request.model == pool.model]
    # how much a prefix cache saves is not known before flying
    saved = pool.prefix_caching and any(request.prompt for request in ours)
    inputs = 0 if saved else sum(request.input_tokens for request in ours)
    outputs = sum(request.output_tokens for request in ours)
    if pool.disaggregated is not None:  # others compute the prompts and bring the first tokens
        inputs, outputs = 0, outputs - len(ours)
    by_tokens = (inputs + outputs) * per_token + inputs * cost.per_prefill_token
    by_steps = outputs / seats * cost.seconds(1, 1, 0, 0, 0.0)
    return max(1, ceil(good_share * max(by_tokens, by_steps) / (workload.duration_seconds + AFTERWARDS_SECONDS) - 1e-9))


def _pool_with(pool: Pool, settings: Settings) -> Pool:
    given = pool.model_dump(exclude_unset=True)
    for name, value in settings:
        if name == "policy":
            continue
        if name == PREFILL_REPLICAS:
            if pool.disaggregated is None:
                raise InputError(f"plan.vary: {name}: the pool has no `disaggregated` block")
            given["disaggregated"] = given["disaggregated"] | {"prefill_replicas": value}
            continue
        if name not in Pool.model_fields or name in ("replicas", "autoscale", "disaggregated", "model", "name"):
            known = sorted(
                set(Pool.model_fields) - {"autoscale", "disaggregated", "model", "name"} | {"policy", PREFILL_REPLICAS}
            )
            raise InputError(f"plan.vary: {name!r} is nothing that can be varied; expected one of {', '.join(known)}")
        given[name] = value
        if name == "gpu":
            given["step_cost"] = None
            if value != pool.gpu and pool.profile != SHIPPED:
                given["profile"] = None  # what was measured on one GPU says nothing of another
    try:
        return Pool.model_validate(given)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False)[0]
        raise InputError(
            f"plan.vary: {'.'.join(map(str, first['loc']))}: {first['input']!r}: {first['msg']}"
        ) from invalid


def _replicas(given: Any) -> tuple[int, int]:
    match = _RANGE.fullmatch(str(given))
    bounds = (int(match[1]), int(match[2])) if match else (given, given)
    if not all(isinstance(bound, int) for bound in bounds) or not 1 <= bounds[0] <= bounds[1]:
        raise InputError(f"plan.vary: replicas is {given!r}; expected a range such as 1..16")
    return bounds


def _choices(name: str, given: Any) -> Sequence[Any]:
    if isinstance(given, list | tuple) and given:
        return given
    match = _RANGE.fullmatch(str(given))
    if match:
        return range(int(match[1]), int(match[2]) + 1)
    if isinstance(given, str | int | float | bool):
        return [given]
    raise InputError(f"plan.vary: {name} is {given!r}; expected a list of values, or a range such as 1..8")
