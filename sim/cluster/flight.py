"""One flight: a scenario's cluster is built in simulated time, its workload flown through it, its record given back.

Start here. Building order is the order of the parts: fleet, router, gateway, clients, then what disturbs and what
watches them. Same scenario, workload and seed: same record, whatever else the process does.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from reference.custom_policy import PolicyError, routing_for
from reference.engine.sequence import EngineError
from reference.policy.ejection import EjectionSettings
from reference.policy.pool import Pool as PolicyPool
from reference.policy.pool import PoolSettings
from reference.policy.routing.protocol import RoutingPolicy
from reference.policy.routing.registry import UnknownPolicy
from sim.cluster.autoscaler import Autoscaler
from sim.cluster.clients import Clients
from sim.cluster.clock import Clock, Turn
from sim.cluster.faults import Faults
from sim.cluster.fleet import Fleet, Squad
from sim.cluster.gateway import Gateway
from sim.cluster.handover import Handover, handover_between
from sim.cluster.machines import Machine, machine_for
from sim.cluster.persistent_clients import PersistentClients
from sim.cluster.recorder import CANCELLED, Recorder
from sim.cluster.replica import Listener
from sim.cluster.router import Desk, Router
from sim.cluster.sampler import Sampler, in_flight_at_the_gateway
from sim.experiment.disaggregation import name_of, prefill_pool, with_prefill
from sim.experiment.errors import InputError
from sim.experiment.record import RunRecord
from sim.experiment.resending import Resending, rules_of
from sim.experiment.scenario import LoadedScenario
from sim.experiment.schema import Cluster, Policy, Pool, Scenario
from sim.experiment.schema import Router as RouterSettings
from sim.experiment.workload import Workload
from sim.hardware import HardwareError

RUNG = "sim"

Until = Callable[[Recorder, float], bool]
"""Told the rows so far and the time; true ends the flight."""
UNBOUNDED: Final = 2**62

OVERTIME_SECONDS = 3600.0
"""How long after the workload's window open requests are flown on; then they are cancelled."""


def fly(
    loaded: LoadedScenario,
    workload: Workload,
    *,
    progress: Callable[[float], None] | None = None,
    leaping: bool = True,
    seed: int | None = None,
    with_steps: bool = False,
    until: Until | None = None,
) -> RunRecord:
    """Fly `workload` through the scenario's cluster in simulated time.

    `progress` is told the share of the window that has passed. `seed` stands in for the scenario's. `leaping` off takes
    every step of every engine singly, with the same record. `with_steps` has the record hold every engine's steps. When
    `until`, asked at each hundredth of the window, says so, the flight ends there; open rows stay without a status.

    Raises:
        InputError: a policy, GPU, model or fault target is unknown, or a model does not fit its GPU.
    """
    began = time.perf_counter()
    flight = Flight(loaded, workload, progress=progress, leaping=leaping, seed=seed, with_steps=with_steps, until=until)
    with _collector_at_rest():
        flight.run()
        record = flight.record()
        del flight  # so that the collector's first look, at the end of its rest, finds its parts to be garbage
    wall_seconds = time.perf_counter() - began
    record.diagnostics["wall_seconds"] = wall_seconds
    record.diagnostics["requests_per_wall_second"] = len(workload.requests) / wall_seconds
    return record


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Spare the flight the collector of cycles: what it makes lives to its end, and would be looked at ever again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Flight:
    """The parts of one flight, put together. Built, run once, and asked for its record."""

    def __init__(
        self,
        loaded: LoadedScenario,
        workload: Workload,
        *,
        progress: Callable[[float], None] | None = None,
        leaping: bool = True,
        seed: int | None = None,
        with_steps: bool = False,
        until: Until | None = None,
    ) -> None:
        scenario = loaded.scenario
        cluster = scenario.cluster
        self._loaded = loaded
        self._workload = workload
        self._progress = progress
        self._until = until
        self._hop = hop = cluster.network.hop
        self.seed = scenario.seed if seed is None else seed
        self.clock = clock = Clock()
        self.recorder = recorder = Recorder(workload, self._on_all_ended)
        self.fleet = fleet = Fleet(clock, recorder, hop)
        self._over = clock.event()
        requests = list(workload.requests)
        pools = with_prefill(cluster.pools)
        self.machines: dict[str, Machine] = {name_of(pool): _machine(pool, leaping=leaping) for pool in pools}
        self._handovers: dict[str, Handover] = {}
        """By the name of the pool that decodes."""
        self.router = Router(
            settings=cluster.router,
            desks=self._desks(loaded, cluster),
            requests=requests,
            clock=clock,
            fleet=fleet,
            recorder=recorder,
            hop=hop,
            chance=self._stream("errors"),
        )
        fleet.watcher = self.router
        self._build_fleet(cluster, with_steps)
        self.router.open()
        gateway = Gateway(
            settings=cluster.gateway,
            clock=clock,
            router=self.router,
            recorder=recorder,
            hop=hop,
            router_overhead=cluster.router.overhead,
        )
        self._persistent: PersistentClients | None = None
        rules = rules_of(scenario)
        if rules:
            chance = self._stream("client retries")
            resending = {name: Resending(rule, chance) for name, rule in rules.items()}
            self._persistent = PersistentClients(requests, resending, clock, gateway, recorder)
        else:
            Clients(workload.requests, clock, gateway, recorder)
        Faults(scenario.faults, fleet, clock, recorder)
        self._sampler = Sampler(
            clock=clock,
            fleet=fleet,
            router=self.router,
            recorder=recorder,
            interval=scenario.measure.sample_interval,
            duration=workload.duration_seconds,
            progress=progress if until is None else self._on_progress,
        )

    def run(self) -> None:
        """Fly until every request has ended and the window is over, or overtime is."""
        clock = self.clock
        clock.call_at(self._workload.duration_seconds + OVERTIME_SECONDS, Turn.LANDING, self._on_overtime)
        if not self._workload.requests:
            self._on_all_ended()
        clock.run(until=self._over)
        if self._progress is not None:
            self._progress(1.0)

    def record(self) -> RunRecord:
        """Put together what happened."""
        scenario, workload = self._loaded.scenario, self._workload
        record = RunRecord(
            scenario_name=scenario.name,
            scenario_yaml=self._loaded.yaml_text,
            rung=RUNG,
            seed=self.seed,
            workload_hash=workload.content_hash,
            warm_up_seconds=scenario.measure.warm_up,
            duration_seconds=workload.duration_seconds,
        )
        self.recorder.write_into(record)
        instants = self._sampler.instants
        at_gateway = in_flight_at_the_gateway(self.recorder, instants, self._hop)
        record.samples.add("gateway", "in_flight", instants, at_gateway)
        record.gaps = self._gaps()
        record.steps = [
            (replica.name, *span) for replica in self.fleet.all_replicas for span in replica.engine.spans or ()
        ]
        record.facts = self._facts(scenario)
        if self._persistent is not None:
            self._persistent.fold_into(record, instants)
        return record

    def _stream(self, subsystem: str) -> Callable[[], float]:
        """One named stream of chance per subsystem, so that one more draw in one leaves the others alone."""
        return random.Random(f"{self.seed}/{subsystem}").random

    def _desks(self, loaded: LoadedScenario, cluster: Cluster) -> dict[str, Desk]:
        desks: dict[str, Desk] = {}
        settings = pool_settings(cluster.router)
        for pool in cluster.pools:
            if pool.model not in desks:
                routing = _routing(cluster.router.policy, loaded, "cluster.router.policy")
                chance = self._stream(f"routing/{pool.model}")
                desks[pool.model] = Desk(PolicyPool(settings, routing, chance), pool.block_size)
            if pool.disaggregated is not None:
                routing = _routing(pool.disaggregated.decode_policy, loaded, "disaggregated.decode_policy")
                chance = self._stream(f"routing/{pool.model}/decode")
                # who has been let in is not sent away between its prompt and its answer
                patient = replace(settings, max_queued=UNBOUNDED, max_wait_seconds=None)
                answers = desks[_decode_desk(pool)] = Desk(PolicyPool(patient, routing, chance), pool.block_size)
                self._handovers[name_of(pool)] = handover_between(
                    desks[pool.model],
                    answers,
                    pool,
                    self.machines[name_of(pool)],
                    (self.clock, self.fleet, self.recorder),
                    self._hop,
                )
        return desks

    def _build_fleet(self, cluster: Cluster, with_steps: bool) -> None:
        for pool in cluster.pools:
            squad = self._add_squad(pool, with_steps, desk=_decode_desk(pool) if pool.disaggregated else None)
            prefill = prefill_pool(pool)
            if prefill is not None:
                self._add_squad(prefill, with_steps, listener=self._handovers[squad.name])
            if pool.autoscale is not None:
                Autoscaler(
                    settings=pool.autoscale,
                    squad=squad,
                    fleet=self.fleet,
                    clock=self.clock,
                    recorder=self.recorder,
                )

    def _add_squad(
        self, pool: Pool, with_steps: bool, desk: str | None = None, listener: Listener | None = None
    ) -> Squad:
        name = name_of(pool)
        machine = self.machines[name]
        engine = machine.make_engine(with_steps=with_steps)
        return self.fleet.add_squad(name, pool, engine, machine.request_seconds, desk, listener)

    def _on_all_ended(self) -> None:
        end = max(self.clock.now, self._workload.duration_seconds, self.recorder.last_ended)
        self.clock.call_at(end, Turn.LANDING, self._land)

    def _on_overtime(self, _: None) -> None:
        for index, status in enumerate(self.recorder.status):
            if not status:
                self.recorder.end(index, self.clock.now, CANCELLED, "flight over")

    def _on_progress(self, share: float) -> None:
        if self._progress is not None:
            self._progress(share)
        if self._until is not None and self._until(self.recorder, self.clock.now):
            self._over.succeed()

    def _land(self, _: None) -> None:
        self._over.succeed()

    def _gaps(self) -> list[tuple[float, float, float]]:
        pooled: dict[float, int] = {}
        for replica in self.fleet.all_replicas:
            for seconds, count in replica.engine.gaps.items():
                pooled[seconds] = pooled.get(seconds, 0) + count
        return [(seconds, 1.0, float(count)) for seconds, count in sorted(pooled.items())]

    def _facts(self, scenario: Scenario) -> dict[str, Any]:
        end = self.clock.now
        seconds: dict[str, float] = {squad.name: 0.0 for squad in self.fleet.squads}
        counters: dict[str, dict[str, int]] = {squad.name: {} for squad in self.fleet.squads}
        for replica in self.fleet.all_replicas:
            gone_at = end if replica.gone_at is None else replica.gone_at
            seconds[replica.pool] += gone_at - replica.created_at
            into = counters[replica.pool]
            for name, count in replica.engine.counters.as_dict().items():
                into[name] = into.get(name, 0) + count
        prices = [self.machines[name].price_per_hour for name in seconds]
        cost_per_hour = None
        if all(price is not None for price in prices) and end:
            cost_per_hour = sum(
                price * used / end for price, used in zip(prices, seconds.values(), strict=True) if price is not None
            )
        return {
            "rows_read": self._workload.rows_read,
            "dropped": dict(self._workload.dropped),
            "notes": [*self._workload.notes, *(handover.told(name, end) for name, handover in self._handovers.items())],
            "flown_seconds": end,
            "replica_seconds": seconds,
            "cost_per_hour": cost_per_hour,
            "engine": counters,
        }


def _machine(pool: Pool, *, leaping: bool) -> Machine:
    try:
        return machine_for(pool, leaping=leaping)
    except (HardwareError, EngineError) as error:
        raise InputError(f"cluster.pools: {name_of(pool)}: {error}") from error


def _routing(policy: Policy, loaded: LoadedScenario, where: str) -> RoutingPolicy:
    try:
        return routing_for(policy.name, policy.options, loaded.base_dir)
    except (PolicyError, UnknownPolicy) as error:
        raise InputError(f"{where}: {error}") from error


def _decode_desk(pool: Pool) -> str:
    return f"{pool.model}, decoding"


def pool_settings(router: RouterSettings) -> PoolSettings:
    """Give a scenario's router block to the policy pool, in its own terms."""
    queue, retry, ejection = router.queue, router.retry, router.ejection
    return PoolSettings(
        max_queued=queue.max_requests,
        max_wait_seconds=queue.max_wait,
        max_in_flight_per_endpoint=queue.max_in_flight_per_endpoint,
        fairness=queue.fairness,
        tenant_weights=queue.weights,
        max_attempts=retry.max_attempts,
        retry_budget_ratio=retry.budget,
        retry_min_per_second=retry.min_per_second,
        ejection=EjectionSettings(ejection.consecutive_failures, ejection.base, ejection.max),
    )
