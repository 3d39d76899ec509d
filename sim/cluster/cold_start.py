"""How long a replica takes from being asked for to being ready, part by part.

The image is pulled onto a node that has not got it, the weights are read from storage (all replicas of a node share its
way there), and the engine warms up until it answers a first token.
"""

from __future__ import annotations

from dataclasses import dataclass

from sim.experiment.errors import InputError
from sim.experiment.schema import Pool
from sim.hardware import HardwareError, find_model

BYTES = {"bf16": 2.0, "fp8": 1.0}


@dataclass(frozen=True, slots=True)
class ColdStart:
    """Seconds of one start."""

    pull: float
    """Of the image, on a node that has not got it."""
    load: float
    """Of the weights."""
    readiness: float

    def seconds(self, *, has_image: bool) -> float:
        """Add up what is needed."""
        return self.load + self.readiness + (0.0 if has_image else self.pull)


def cold_start_of(pool: Pool) -> ColdStart:
    """Work out the cold start of a pool's replicas, from its `startup` parts or its one figure.

    Raises:
        InputError: the size of the weights is neither given nor known.
    """
    startup = pool.startup
    if startup is None:
        return ColdStart(0.0, 0.0, pool.cold_start)
    gigabytes = startup.weights_gb if startup.weights_gb is not None else _weights_gb(pool)
    return ColdStart(startup.image_gb / startup.pull_gb_per_s, gigabytes / startup.load_gb_per_s, startup.readiness)


def _weights_gb(pool: Pool) -> float:
    try:
        model = find_model(pool.model)
    except HardwareError as error:
        raise InputError(f"cluster.pools: startup: give weights_gb, because {error}") from error
    return model.parameters * BYTES.get(pool.weights, 2.0) / 1e9
