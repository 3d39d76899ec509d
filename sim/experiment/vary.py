"""What `plan.vary` says: settings of pools and of the router, each with the values that it may take.

A plain key is a setting of the first pool (`max_num_seqs`, `speculative.tokens`) or of the router (`policy`,
`queue.max_requests`); `cluster.pools.NAME.KEY` is another pool's, `cluster.router.KEY` the router's in full. Refuses to
know prices and flights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from math import prod
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from sim.experiment.errors import ScenarioError
from sim.experiment.explain import KeyPath, block_in, problem
from sim.experiment.schema import Block, Pool, Router, Scenario
from sim.experiment.suggest import meant, one_of
from sim.hardware.profile import SHIPPED

Refuse = Callable[[KeyPath, str], ScenarioError]
Settings = tuple[tuple[str, Any], ...]
"""(dotted key below a pool or the router, value)."""

DEFAULT_REPLICAS = (1, 64)
"""Of a pool that is varied without saying how many."""

MOST_VALUES = 256
"""Of one key, and of all keys together: more is no search but a mistake."""

NOT_VARIED = {"name", "model", "autoscale", "worker", "cold_start", "startup"}
"""Keys of a pool that say who it is, or what a plan does not fly."""

MEASURED_AT = {
    *("gpu", "tensor_parallel", "pipeline_parallel", "data_parallel", "expert_parallel"),
    *("weights", "kv_cache", "engine"),
}
"""What a measured profile holds for: another value, and it says nothing any more."""

_RANGE = re.compile(r"\s*(\d+)\s*\.\.\s*(\d+)\s*")
_B = TypeVar("_B", bound=Block)


@dataclass(frozen=True, slots=True)
class Axis:
    """One key and its values."""

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class PoolAxes:
    """What is varied of one pool. `place` is its place in the scenario."""

    place: int
    replicas: tuple[int, int]
    axes: tuple[Axis, ...]


@dataclass(frozen=True, slots=True)
class Variation:
    """All that is varied; `pools` has at least one."""

    router: tuple[Axis, ...]
    pools: tuple[PoolAxes, ...]


def variation_of(scenario: Scenario, vary: Mapping[str, Any], refuse: Refuse, base_dir: Path) -> Variation:
    """Read `plan.vary`; every value is tried on its own.

    Raises:
        ScenarioError: a key that nothing has, a value that it cannot take, an empty range, or far too many values.
    """
    router: list[Axis] = []
    pools: dict[int, list[Axis]] = {}
    replicas: dict[int, tuple[int, int]] = {}
    for written, given in vary.items():
        path: KeyPath = ("plan", "vary", written)
        place, key = _home(scenario, written, path, refuse)
        axes = router if place is None else pools.setdefault(place, [])
        if key == "replicas" and place is not None:
            replicas[place] = _range(given, path, refuse)
            continue
        axes.append(Axis(key, _values(given, path, refuse)))
        for number, value in enumerate(axes[-1].values):
            where: KeyPath = (*path, number) if isinstance(given, list | tuple) else path
            _try(scenario, place, key, value, partial(refuse, where), base_dir)
    if not pools:
        pools[0] = []
    for axes in pools.values():
        if (number := prod(len(axis.values) for axis in (*axes, *router))) > MOST_VALUES:
            raise refuse(("plan", "vary"), f"{number} combinations; expected at most {MOST_VALUES}: list fewer values")
    varied = (PoolAxes(p, replicas.get(p, DEFAULT_REPLICAS), tuple(axes)) for p, axes in sorted(pools.items()))
    return Variation(tuple(router), tuple(varied))


def with_settings(scenario: Scenario, place: int, settings: Settings) -> Scenario:
    """Return the scenario with settings for one of its pools, and for the router.

    Raises:
        ValidationError: a value is none that its key can take.
    """
    cluster = scenario.cluster
    pool, router = cluster.pools[place], cluster.router
    for key, value in settings:
        head, *below = key.split(".")
        if head in Router.model_fields:
            router = _with(router, [head, *below], value)
        else:
            pool = _for_other_hardware(pool, head, value)
            pool = _with(pool, [head, *below], value)
    pools = (*cluster.pools[:place], pool, *cluster.pools[place + 1 :])
    return scenario.model_copy(update={"cluster": cluster.model_copy(update={"pools": pools, "router": router})})


def pool_names(scenario: Scenario) -> list[str]:
    """Return the names of the pools, as `--set` and faults know them."""
    return [pool.name or pool.engine for pool in scenario.cluster.pools]


def _with(block: _B, path: Sequence[str], value: Any) -> _B:
    # what is unset stays so: some defaults exclude each other when they are written out
    given = block.model_dump(exclude_unset=True)
    node = given
    for part in path[:-1]:
        node[part] = node.get(part) or {}
        node = node[part]
    node[path[-1]] = value
    return type(block).model_validate(given)


def _for_other_hardware(pool: Pool, key: str, value: Any) -> Pool:
    if key not in MEASURED_AT or value == getattr(pool, key):
        return pool
    update: dict[str, Any] = {}
    if pool.profile not in (None, SHIPPED):
        update["profile"] = None
    if key == "gpu":
        update["step_cost"] = None
    return pool.model_copy(update=update)


def _home(scenario: Scenario, written: str, path: KeyPath, refuse: Refuse) -> tuple[int | None, str]:
    """Find what a key belongs to: a pool by its place, or the router (None); and the key below it."""
    parts = written.removeprefix("cluster.").split(".")
    names = pool_names(scenario)
    if parts[0] == "pools" and len(parts) > 1:
        name = parts[1]
        if name not in names and not (name.isdigit() and int(name) < len(names)):
            raise refuse(path, f"there is no pool {name!r}{meant(name, names)}; {one_of(names)}")
        place: int | None = names.index(name) if name in names else int(name)
        parts = parts[2:]
    elif parts[0] == "router" and len(parts) > 1:
        place, parts = None, parts[1:]
    elif parts[0] in Router.model_fields:
        place = None
    else:
        place = 0
    _check_key(parts, Router if place is None else Pool, written, path, refuse)
    return place, ".".join(parts)


def _check_key(parts: list[str], block: type[Block], written: str, path: KeyPath, refuse: Refuse) -> None:
    known = [name for name in block.model_fields if block is Router or name not in NOT_VARIED]
    if not parts or parts[0] not in known:
        all_known = sorted({*known, *(() if "." in written else Router.model_fields)})
        raise refuse(
            path,
            f"{'.'.join(parts)!r} is nothing that can be varied{meant('.'.join(parts), all_known)}; "
            f"{one_of(all_known, 99)}",
        )
    inner: type[Block] = block
    for position, part in enumerate(parts[:-1]):
        found = block_in(inner.model_fields[part].annotation)
        below = parts[position + 1]
        if found is None:
            if "dict" not in str(inner.model_fields[part].annotation):
                raise refuse(path, f"{part!r} has no parts, so {below!r} cannot be varied in it")
            return
        inner = found
        if below not in inner.model_fields:
            fields = list(inner.model_fields)
            raise refuse(path, f"{part!r} has no {below!r}{meant(below, fields)}; {one_of(fields, 99)}")


def _try(
    scenario: Scenario, place: int | None, key: str, value: Any, refused: Callable[[str], ScenarioError], base: Path
) -> None:
    try:
        tried = with_settings(scenario, place or 0, ((key, value),))
    except ValidationError as invalid:
        # an unknown key explains a missing one
        error = min(invalid.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
        if error["type"] == "extra_forbidden":
            raise refused(f"unknown key {error['loc'][-1]!r}") from invalid
        inside = ".".join(map(str, error["loc"][1:]))
        raise refused(f"{inside and inside + ': '}{problem(error)}") from invalid
    if key.partition(".")[0] == "policy":
        _try_policy(tried, refused, base)
    if key == "gpu" and value is not None:
        _try_gpu(value, refused)


def _try_policy(tried: Scenario, refused: Callable[[str], ScenarioError], base_dir: Path) -> None:
    from reference.custom_policy import PolicyError, routing_for
    from reference.policy.routing.registry import UnknownPolicy

    policy = tried.cluster.router.policy
    try:
        routing_for(policy.name, policy.options, base_dir)
    except (PolicyError, UnknownPolicy) as error:
        raise refused(str(error)) from error


@cache
def _gpu_problem(name: str) -> str:
    from sim.hardware import HardwareError, find_gpu

    try:
        find_gpu(name)
    except HardwareError as error:
        return str(error)
    return ""


def _try_gpu(name: str, refused: Callable[[str], ScenarioError]) -> None:
    if told := _gpu_problem(name):
        raise refused(told)


def _range(given: Any, path: KeyPath, refuse: Refuse) -> tuple[int, int]:
    match = _RANGE.fullmatch(str(given))
    bounds = (int(match[1]), int(match[2])) if match else (given, given)
    if not all(type(bound) is int for bound in bounds) or not 1 <= bounds[0] <= bounds[1]:
        raise refuse(path, f"replicas is {given!r}; expected a range such as 1..16, or one number")
    return bounds


def _values(given: Any, path: KeyPath, refuse: Refuse) -> tuple[Any, ...]:
    if isinstance(given, list | tuple) and given:
        return tuple(given)
    match = _RANGE.fullmatch(str(given))
    if match:
        first, last = int(match[1]), int(match[2])
        if first > last:
            raise refuse(path, f"the range is empty; expected {last}..{first}")
        if last - first >= MOST_VALUES:
            raise refuse(
                path, f"{last - first + 1} values; expected at most {MOST_VALUES}, or a list such as [{first}, {last}]"
            )
        return tuple(range(first, last + 1))
    if isinstance(given, str | int | float | bool | dict):
        return (given,)
    raise refuse(path, "expected a list of values, or a range such as 1..8")
