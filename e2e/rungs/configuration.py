"""What the servers of a flight are told: a scenario's cluster as settings of workers, router and gateway."""

from __future__ import annotations

from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from reference.engine import EngineError
from sim.cluster.machines import machine_for
from sim.experiment.errors import InputError
from sim.experiment.scenario import LoadedScenario
from sim.experiment.schema import Pool, RateLimit, Scenario
from sim.hardware import HardwareError

SHUTDOWN_SECONDS = 2.0
"""A stack that was made for a flight is ended by whoever is looking at it: streams under way are not waited for."""


def worker_config(name: str, pool: Pool) -> dict[str, Any]:
    """Return the settings of a replica that is the emulated engine: the same engine and step cost as the simulator's.

    Raises:
        InputError: the model does not fit its GPU, and the like.
    """
    try:
        machine = machine_for(pool, leaping=False)
    except (HardwareError, EngineError) as error:
        raise InputError(f"cluster.pools: {name}: {error}") from error
    return {
        "model": pool.model,
        "step_cost": machine.cost.to_dict(),
        "engine": asdict(machine.settings),
        "request_seconds": machine.request_seconds,
        "control": True,
        "shutdown_seconds": SHUTDOWN_SECONDS,
    }


def pool_block(loaded: LoadedScenario, pool: Pool) -> dict[str, Any]:
    """Return the router's settings of the pool of a model."""
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


def router_config(scenario: Scenario, blocks: list[dict[str, Any]], decision_log: Path) -> dict[str, Any]:
    """Return the router's settings, but for where its endpoints are known from."""
    router = scenario.cluster.router
    return {
        "pools": blocks,
        "scrape_interval_seconds": router.scrape_interval,
        "health_interval_seconds": router.health_interval,
        "decision_log": str(decision_log),
        "decision_header": "always",
        "seed": scenario.seed,
        "shutdown_seconds": SHUTDOWN_SECONDS,
    }


def keys_of(scenario: Scenario) -> dict[str, str]:
    """Return an API key for each tenant."""
    return {tenant.name: f"wt-{tenant.name}-{scenario.seed}" for tenant in scenario.workload.tenants}


def gateway_config(scenario: Scenario, router_url: str, keys: dict[str, str]) -> dict[str, Any]:
    """Return the gateway's settings."""
    limits = {limit.tenant: _limit(limit) for limit in scenario.cluster.gateway.rate_limits}
    return {
        "router_url": router_url,
        "keys": [{"sha256": sha256(key.encode()).hexdigest(), "tenant": tenant} for tenant, key in keys.items()],
        "default_limit": limits.pop("*", None),
        "limits": limits,
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
