"""Which profile a pool means: a file beside the scenario, or one of those that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sim.experiment.schema import Pool, Scenario
from sim.hardware.profile import SHIPPED


def keys_of(pool: Pool) -> dict[str, Any]:
    """Give what a shipped profile is found by. Only for a pool with a `gpu`."""
    from sim.hardware import find_gpu

    assert pool.gpu is not None
    return {
        "gpu": find_gpu(pool.gpu).name,
        "model": pool.model,
        "engine": pool.engine,
        "weights": pool.weights,
        "tensor_parallel": pool.tensor_parallel,
    }


def beside(scenario: Scenario, base_dir: Path) -> Scenario:
    """Return the scenario with the paths of its profiles as seen from anywhere."""
    if all(pool.profile in (None, SHIPPED) for pool in scenario.cluster.pools):
        return scenario
    pools = tuple(
        pool
        if pool.profile is None or pool.profile == SHIPPED
        else pool.model_copy(update={"profile": str(base_dir / pool.profile)})
        for pool in scenario.cluster.pools
    )
    return scenario.model_copy(update={"cluster": scenario.cluster.model_copy(update={"pools": pools})})
