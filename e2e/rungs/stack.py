"""The serving stack of a scenario as processes: a worker for each replica, the router over them, the gateway before."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.rungs.configuration import gateway_config, keys_of, pool_block, router_config, worker_config
from e2e.rungs.processes import READY_SECONDS, Crew, Process
from e2e.rungs.real_workers import add_real_worker, seconds_until_ready
from sim.experiment.disaggregation import with_prefill
from sim.experiment.scenario import LoadedScenario
from sim.experiment.schema import Pool

LISTING = "endpoints.json"


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
    crew: Crew = field(repr=False)
    """Who starts them."""

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

    def add_worker(self, pool: str) -> Process:
        """Work out one more worker of a pool, with the smallest ordinal that nobody has; it is not started yet."""
        ordinal = 0
        while f"{pool}-{ordinal}" in self.workers:
            ordinal += 1
        worker = self.workers[f"{pool}-{ordinal}"] = _add_worker(
            self.crew, f"{pool}-{ordinal}", self.pools[pool], self.base_dir
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

    def start(self) -> float:
        """Start everything and wait until it serves; return how long a worker took, in seconds."""
        began = time.monotonic()
        for worker in self.workers.values():
            self.crew.start(worker)
        self.list_workers()
        for process in (self.router, self.gateway):
            self.crew.start(process)
        seconds = seconds_until_ready([*self.pools.values()], READY_SECONDS)
        self.crew.wait_until_ready(self.workers.values(), seconds)
        took = time.monotonic() - began
        self.crew.wait_until_ready([self.router, self.gateway])
        return took


def add_stack(crew: Crew, loaded: LoadedScenario, *, gateway_port: int | None = None) -> Stack:
    """Work out the processes of a scenario's cluster; nothing is started yet.

    Raises:
        InputError: a model does not fit its GPU, and the like.
    """
    scenario = loaded.scenario
    workers: dict[str, Process] = {}
    pools = {pool.name or pool.engine: pool for pool in with_prefill(scenario.cluster.pools)}
    blocks: dict[str, dict[str, Any]] = {}
    nodes: dict[str, tuple[str, ...]] = {}
    for name, pool in pools.items():
        ours = [_add_worker(crew, f"{name}-{ordinal}", pool, loaded.base_dir) for ordinal in range(pool.replicas)]
        workers |= {worker.name: worker for worker in ours}
        blocks.setdefault(pool.model, pool_block(loaded, pool))
        for start in range(0, len(ours), pool.replicas_per_node):
            nodes[f"node-{len(nodes)}"] = tuple(worker.name for worker in ours[start : start + pool.replicas_per_node])
    to_router = router_config(scenario, [*blocks.values()], crew.directory / "decisions.jsonl")
    to_router |= {"endpoints_file": str(crew.directory / LISTING)}
    router = crew.add("router", "reference.router", to_router, ready_path="/readyz")
    keys = keys_of(scenario)
    to_gateway = gateway_config(scenario, router.url, keys) | {"access_log": str(crew.directory / "access.jsonl")}
    gateway = crew.add("gateway", "reference.gateway", to_gateway, ready_path="/readyz", port=gateway_port)
    return Stack(workers, router, gateway, keys, nodes, pools, crew.directory / LISTING, loaded.base_dir, crew)


def _add_worker(crew: Crew, name: str, pool: Pool, base_dir: Path) -> Process:
    if pool.worker is not None:
        return add_real_worker(crew, name, pool, pool.worker, base_dir)
    return crew.add(name, "reference.worker.emulated", worker_config(name, pool))
