"""The space that `windtunnel plan` searches: what `plan.vary` allows, as options of each pool with price and bound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sim.capacity.perfect import perfect_replicas
from sim.capacity.price import Prices, gpus_of
from sim.capacity.search import Candidate, Option, Skipped
from sim.experiment.checks import fault_targets
from sim.experiment.disaggregation import prefill_pool
from sim.experiment.errors import InputError
from sim.experiment.scenario import LoadedScenario
from sim.experiment.schema import Fault, Plan, Pool
from sim.experiment.vary import Axis, PoolAxes, Settings, Variation, pool_names, variation_of, with_settings
from sim.experiment.workload import Workload

if TYPE_CHECKING:
    from sim.cluster.machines import Machine

DEFAULT_VARY: dict[str, Any] = {"replicas": "1..64", "gpu": ["l40s", "a100-sxm", "h100-sxm", "h200-sxm"]}
"""Where the scenario has no `plan` block."""


@dataclass(frozen=True, slots=True)
class Spare:
    """What must be dispensable in every pool that is varied."""

    replicas: int = 0
    nodes: int = 0
    """With as many replicas each as the pool puts on one (`replicas_per_node`)."""

    def of(self, pool: Pool) -> int:
        """Return how many replicas of a pool that is."""
        return self.replicas + self.nodes * pool.replicas_per_node

    def __str__(self) -> str:
        parts = [(self.replicas, "replica"), (self.nodes, "node")]
        return " and ".join(f"{count} {noun}{'s' if count > 1 else ''}" for count, noun in parts if count)


NO_SPARE = Spare()


@dataclass(frozen=True, slots=True)
class Part:
    """The options of one pool."""

    place: int
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class Space:
    """What can be flown, and what was left out before the first flight."""

    ways: tuple[tuple[Part, ...], ...]
    """Pools that are varied together share the router, so there is a way for each of its settings; one pool alone has
    them among its options."""
    skipped: tuple[Skipped, ...]


def space_of(loaded: LoadedScenario, workload: Workload, prices: Prices, spare: Spare = NO_SPARE) -> Space:
    """Read `plan.vary` into options.

    Raises:
        InputError: as `variation_of`, or nothing of it could serve a model.
    """
    plan = loaded.scenario.plan or Plan(vary=DEFAULT_VARY)
    variation = variation_of(loaded.scenario, plan.vary, loaded.error, loaded.base_dir)
    maker = _Maker(loaded, workload, prices, spare, plan.minimise)
    if len(variation.pools) == 1:
        only = variation.pools[0]
        return Space(((maker.part(only, (*only.axes, *variation.router)),),), tuple(maker.skipped))
    ways = [tuple(maker.part(pool, (*pool.axes, *router)) for pool in variation.pools) for router in _fixed(variation)]
    return Space(tuple(ways), tuple(maker.skipped))


def with_candidates(loaded: LoadedScenario, candidates: Sequence[Candidate], spare: Spare) -> LoadedScenario:
    """Return the scenario with a candidate for each of some pools, what must be dispensable gone."""
    scenario = loaded.scenario
    for candidate in candidates:
        place = candidate.option.pool
        scenario = with_settings(scenario, place, candidate.option.settings)
        cluster = scenario.cluster
        pool = cluster.pools[place]
        pool = pool.model_copy(update={"replicas": candidate.replicas - spare.of(pool), "autoscale": None})
        pools = (*cluster.pools[:place], pool, *cluster.pools[place + 1 :])
        scenario = scenario.model_copy(update={"cluster": cluster.model_copy(update={"pools": pools})})
    known = dict(zip(pool_names(scenario), scenario.cluster.pools, strict=True))
    faults = tuple(_within_reach(fault, fault_targets(fault.kind, known)) for fault in scenario.faults)
    return replace(loaded, scenario=scenario.model_copy(update={"faults": faults}))


def pool_of(loaded: LoadedScenario, option: Option) -> Pool:
    """Return the pool as an option has it."""
    return with_settings(loaded.scenario, option.pool, option.settings).cluster.pools[option.pool]


def _within_reach(fault: Fault, known: Sequence[str]) -> Fault:
    """Let a fault of a replica or node beyond a small candidate's last one hit that."""
    if fault.target in known:
        return fault
    family = fault.target.rpartition("-")[0]
    last = [target for target in known if target.rpartition("-")[0] == family][-1]
    return fault.model_copy(update={"target": last})


def _fixed(variation: Variation) -> Iterator[tuple[Axis, ...]]:
    """Yield the router's settings, each as axes of one value."""
    for values in product(*(axis.values for axis in variation.router)):
        yield tuple(Axis(axis.key, (value,)) for axis, value in zip(variation.router, values, strict=True))


class _DoesNotFit(Exception):
    """An option on which the model cannot run."""


@dataclass(slots=True)
class _Maker:
    loaded: LoadedScenario
    workload: Workload
    prices: Prices
    spare: Spare
    minimise: str
    skipped: list[Skipped] = field(default_factory=list)

    def part(self, pool: PoolAxes, axes: Sequence[Axis]) -> Part:
        """Make the options of one pool."""
        options, skipped = [], []
        for values in product(*(axis.values for axis in axes)):
            settings = tuple((axis.key, value) for axis, value in zip(axes, values, strict=True))
            try:
                options.append(self._option(pool, axes, settings))
            except _DoesNotFit as why:
                skipped.append(Skipped(Option(settings, 0.0, *pool.replicas, pool=pool.place), str(why)))
        self.skipped += skipped
        if not options:
            reasons = "; ".join(f"{s.option.label or 'as it is'}: {s.reason}" for s in skipped)
            raise InputError(f"plan.vary: nothing of it could serve the model: {reasons}")
        return Part(pool.place, tuple(options))

    def _option(self, axes: PoolAxes, all_axes: Sequence[Axis], settings: Settings) -> Option:
        from reference.engine.sequence import EngineError
        from sim.cluster.machines import machine_for
        from sim.hardware import HardwareError

        try:
            pool = with_settings(self.loaded.scenario, axes.place, settings).cluster.pools[axes.place]
            machine = machine_for(pool)
            prefill = prefill_pool(pool)
            price_beside = 0.0 if prefill is None else self._price(prefill, machine_for(prefill)) * prefill.replicas
        except (HardwareError, EngineError) as error:
            raise _DoesNotFit(str(error)) from error
        except ValidationError as invalid:
            raise _DoesNotFit(invalid.errors(include_url=False)[0]["msg"]) from invalid
        room = machine.settings.num_blocks * machine.settings.block_size
        ours = [request for request in self.workload.requests if request.model == pool.model]
        longest = max((request.input_tokens + request.output_tokens for request in ours), default=0)
        if room < longest:
            raise _DoesNotFit(f"the KV cache holds {room} tokens, and the longest request has {longest}")
        classes = self.loaded.scenario.workload.classes
        least = perfect_replicas(pool, machine, self.workload, classes) + self.spare.of(pool)
        first, last = axes.replicas
        return Option(
            settings,
            self._price(pool, machine),
            max(first, least),
            last,
            axes.place,
            gpus_of(pool),
            least,
            tuple(a.key for a in all_axes if len(a.values) > 1),
            price_beside,
            0 if prefill is None else gpus_of(prefill) * prefill.replicas,
        )

    def _price(self, pool: Pool, machine: Machine) -> float:
        price = float(gpus_of(pool)) if self.minimise == "gpus" else self.prices.of(pool, machine)
        if price is None:
            raise InputError(
                "plan: the pool names no gpu, so a replica has no price; expected `gpu` or `minimise: gpus`"
            )
        return price
