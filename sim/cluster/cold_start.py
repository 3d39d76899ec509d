"""How long a replica takes from being asked for to being ready, part by part.

A new replica waits for a node to take it; the image is pulled onto a node that has not got it, the weights are read
from storage (all replicas of a node share its way there), and the engine warms up until it answers a first token.
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
    scheduling: float = 0.0
    """Of a replica that was not there before."""

    def seconds(self, *, has_image: bool, is_new: bool = False) -> float:
        """Add up what is needed."""
        start = self.load + self.readiness + (0.0 if has_image else self.pull)
        return start + self.scheduling if is_new else start

    def about(self, *, has_image: bool, is_new: bool = False) -> str:
        """Say in words what the seconds are made of."""
        parts = {
            "scheduling": self.scheduling if is_new else 0.0,
            "image": 0.0 if has_image else self.pull,
            "weights": self.load,
            "readiness": self.readiness,
        }
        return ", ".join(f"{name} {seconds:.3g} s" for name, seconds in parts.items() if seconds) or "no time"


def cold_start_of(pool: Pool) -> ColdStart:
    """Work out the cold start of a pool's replicas, from its `startup` parts or its one figure.

    Raises:
        InputError: the size of the weights is neither given nor known.
    """
    startup = pool.startup
    if startup is None:
        return ColdStart(0.0, 0.0, pool.cold_start)
    gigabytes = startup.weights_gb if startup.weights_gb is not None else _weights_gb(pool)
    return ColdStart(
        pull=startup.image_gb / startup.pull_gb_per_s,
        load=gigabytes / startup.load_gb_per_s,
        readiness=startup.readiness,
        scheduling=startup.scheduling,
    )


def _weights_gb(pool: Pool) -> float:
    try:
        model = find_model(pool.model)
    except HardwareError as error:
        raise InputError(f"cluster.pools: startup: give weights_gb, because {error}") from error
    return model.parameters * BYTES.get(pool.weights, 2.0) / 1e9
