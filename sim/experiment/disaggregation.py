"""The prefill replicas of a disaggregated pool, as a pool of their own.

A scenario tells them inside the pool they work for; who builds a cluster of it, or checks one, sees two pools.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sim.experiment.schema import LAYOUT_KEYS, Pool, Scenario

SUFFIX = "prefill"


def name_of(pool: Pool) -> str:
    """Return a pool's name: its own, or its engine's."""
    return pool.name or pool.engine


def prefill_pool(pool: Pool) -> Pool | None:
    """Return the prefill replicas of a pool; None when its replicas compute prompts themselves."""
    given = pool.disaggregated
    if given is None:
        return None
    own: dict[str, Any] = {key: value for key, value in given.prefill if value is not None}
    if own.keys() & {"gpu", "step_cost", *LAYOUT_KEYS}:
        # another machine: what the pool says of its own memory or times is not about it
        own = {"num_gpu_blocks": None} | own
    if "gpu" in own:
        own = {"step_cost": None} | own
    if "step_cost" in own:
        own = {"gpu": None, "profile": None} | own
    same = {
        "name": f"{name_of(pool)}-{SUFFIX}",
        "replicas": given.prefill_replicas,
        "disaggregated": None,
        "autoscale": None,
        "speculative": None,
    }
    return pool.model_copy(update=same | own)


def with_prefill(pools: Iterable[Pool]) -> tuple[Pool, ...]:
    """Return pools, each followed by its prefill replicas where it has some."""
    found: list[Pool] = []
    for pool in pools:
        found.append(pool)
        prefill = prefill_pool(pool)
        if prefill is not None:
            found.append(prefill)
    return tuple(found)


def not_disaggregated(scenario: Scenario) -> list[str]:
    """Say what a rung leaves out on which every replica is an engine that computes prompts and answers."""
    return [
        f"Disaggregation of {name_of(pool)}: each of its {pool.replicas + pool.disaggregated.prefill_replicas} "
        "replicas, those for prefill too, computes prompts and answers, and no KV moves."
        for pool in scenario.cluster.pools
        if pool.disaggregated is not None
    ]
