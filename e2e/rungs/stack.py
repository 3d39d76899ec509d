"""The serving stack of a scenario as processes: a worker for each replica, the router over them, the gateway before."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from e2e.rungs.processes import READY_SECONDS, Crew, Process
from e2e.rungs.real_workers import add_real_worker, seconds_until_ready
from reference.engine import EngineError
from sim.cluster.machines import machine_for
from sim.experiment.errors import InputError
from sim.experiment.scenario import LoadedScenario
from sim.experiment.schema import Pool, RateLimit, Scenario
from sim.hardware import HardwareError

LISTING = "endpoints.json"
SHUTDOWN_SECONDS = 2.0
"""A stack on loopback is ended by whoever is looking at it: streams under way are not waited for."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The processes of a scenario's cluster, and the keys of its tenants."""

    workers: dict[str, Process]
    """By name of the replica, such as `vllm-0`."""
    router: Process
    gateway: Process
    keys: dict[str, str]
    """API key by tenant."""
    nodes: dict[str, tuple[str, ...]]
    """Names of replicas by node."""
    pools: dict[str, Pool]
    """By name."""
    listing: Path
    """The file by which the router knows its endpoints."""
    base_dir: Path
    """Where the scenario's own paths start."""

    @property
    def all(self) -> list[Process]:
        """Every process, in the order of starting."""
        return [*self.workers.values(), self.router, self.gateway]

    def workers_of(self, pool: str) -> list[Process]:
        """The workers of a pool, in order."""
        return [worker for name, worker in list(self.workers.items()) if name.rpartition("-")[0] == pool]

    def pool_of(self, worker: str) -> Pool:
        """The pool that a worker belongs to."""
        return self.pools[worker.rpartition("-")[0]]

    def add_worker(self, crew: Crew, pool: str) -> Process:
        """Work out one more worker of a pool, with the smallest ordinal that nobody has; it is not started yet."""
        ordinal = 0
        while f"{pool}-{ordinal}" in self.workers:
            ordinal += 1
        worker = self.workers[f"{pool}-{ordinal}"] = _add_worker(
            crew, f"{pool}-{ordinal}", self.pools[pool], self.base_dir
        )
        return worker

    def remove_worker(self, name: str) -> None:
        """Forget a worker that has ended."""
        del self.workers[name]

    def list_workers(self, leaving: Collection[str] = ()) -> None:
        """Tell the router which endpoints there are: every worker that has been started and is not leaving."""
        listing: dict[str, list[dict[str, str]]] = {}
        for name, worker in self.workers.items():
            if worker.handle is not None and name not in leaving:
                listing.setdefault(self.pool_of(name).model, []).append({"name": name, "url": worker.url})
        fresh = self.listing.with_suffix(".new")
        fresh.write_text(json.dumps(listing))
        fresh.replace(self.listing)

    def start(self, crew: Crew) -> float:
        """Start everything and wait until it serves; return how long a worker took, in seconds."""
        began = time.monotonic()
        for worker in self.workers.values():
            crew.start(worker)
        self.list_workers()
        for process in (self.router, self.gateway):
            crew.start(process)
        seconds = seconds_until_ready([*self.pools.values()], READY_SECONDS)
        crew.wait_until_ready(self.workers.values(), seconds)
        took = time.monotonic() - began
        crew.wait_until_ready([self.router, self.gateway])
        return took


def add_stack(crew: Crew, loaded: LoadedScenario, *, gateway_port: int | None = None) -> Stack:
    """Work out the processes of a scenario's cluster; nothing is started yet.

    Raises:
        InputError: a model does not fit its GPU, and the like.
    """
    scenario = loaded.scenario
    workers: dict[str, Process] = {}
    pools = {pool.name or pool.engine: pool for pool in scenario.cluster.pools}
    blocks: dict[str, dict[str, Any]] = {}
    nodes: dict[str, tuple[str, ...]] = {}
    for name, pool in pools.items():
        ours = [_add_worker(crew, f"{name}-{ordinal}", pool, loaded.base_dir) for ordinal in range(pool.replicas)]
        workers |= {worker.name: worker for worker in ours}
        blocks.setdefault(pool.model, _pool_block(loaded, pool))
        for start in range(0, len(ours), pool.replicas_per_node):
            nodes[f"node-{len(nodes)}"] = tuple(worker.name for worker in ours[start : start + pool.replicas_per_node])
    router = crew.add(
        "router", "reference.router", _router_config(crew.directory, scenario, [*blocks.values()]), ready_path="/readyz"
    )
    keys = {tenant.name: f"wt-{tenant.name}-{scenario.seed}" for tenant in scenario.workload.tenants}
    gateway_config = _gateway_config(crew.directory, scenario, router.url, keys)
    gateway = crew.add("gateway", "reference.gateway", gateway_config, ready_path="/readyz", port=gateway_port)
    return Stack(workers, router, gateway, keys, nodes, pools, crew.directory / LISTING, loaded.base_dir)


def _add_worker(crew: Crew, name: str, pool: Pool, base_dir: Path) -> Process:
    if pool.worker is not None:
        return add_real_worker(crew, name, pool, pool.worker, base_dir)
    try:
        machine = machine_for(pool, leaping=False)
    except (HardwareError, EngineError) as error:
        raise InputError(f"cluster.pools: {name}: {error}") from error
    config = {
        "model": pool.model,
        "step_cost": machine.cost.to_dict(),
        "engine": asdict(machine.settings),
        "control": True,
        "shutdown_seconds": SHUTDOWN_SECONDS,
    }
    return crew.add(name, "reference.worker.emulated", config)


def _pool_block(loaded: LoadedScenario, pool: Pool) -> dict[str, Any]:
    router = loaded.scenario.cluster.router
    return {
        "model": pool.model,
        "policy": router.policy.name,
        "policy_options": router.policy.options,
        "policy_dir": str(loaded.base_dir),
        "block_size": pool.block_size,
        "max_queued": router.queue.max_requests,
        "max_wait_seconds": router.queue.max_wait,
        "max_in_flight_per_endpoint": router.queue.max_in_flight_per_endpoint,
        "fairness": router.queue.fairness,
        "tenant_weights": router.queue.weights,
        "max_attempts": router.retry.max_attempts,
        "retry_budget_ratio": router.retry.budget,
        "retry_min_per_second": router.retry.min_per_second,
        "ejection_failures": router.ejection.consecutive_failures,
        "ejection_base_seconds": router.ejection.base,
        "ejection_max_seconds": router.ejection.max,
    }


def _router_config(directory: Path, scenario: Scenario, blocks: list[dict[str, Any]]) -> dict[str, Any]:
    router = scenario.cluster.router
    return {
        "pools": blocks,
        "scrape_interval_seconds": router.scrape_interval,
        "health_interval_seconds": router.health_interval,
        "endpoints_file": str(directory / LISTING),
        "decision_log": str(directory / "decisions.jsonl"),
        "decision_header": "always",
        "seed": scenario.seed,
        "shutdown_seconds": SHUTDOWN_SECONDS,
    }


def _gateway_config(directory: Path, scenario: Scenario, router_url: str, keys: dict[str, str]) -> dict[str, Any]:
    limits = {limit.tenant: _limit(limit) for limit in scenario.cluster.gateway.rate_limits}
    return {
        "router_url": router_url,
        "keys": [{"sha256": sha256(key.encode()).hexdigest(), "tenant": tenant} for tenant, key in keys.items()],
        "default_limit": limits.pop("*", None),
        "limits": limits,
        "access_log": str(directory / "access.jsonl"),
        "shutdown_seconds": SHUTDOWN_SECONDS,
    }


def _limit(limit: RateLimit) -> dict[str, Any]:
    return {
        "requests_per_second": limit.requests,
        "request_burst": limit.burst,
        "tokens_per_second": limit.tokens,
        "token_burst": limit.token_burst,
        "concurrency": limit.concurrency,
    }
