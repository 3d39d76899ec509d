"""What a calibration found: a step cost, how sure it is, and how far off it is on what was not fitted."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from reference.engine import StepCost
from sim.fidelity.scoreboard import Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A fit. Made by `sim.fidelity.calibration.calibrate`."""

    cost: StepCost
    request_seconds: float
    told: tuple[str, ...]
    """The coefficients that what was measured can tell at all; the others are 0 and have no uncertainty."""
    uncertainty: dict[str, float]
    """Half of the 95 % interval of each coefficient."""
    fitted: dict[str, Summary]
    """Errors on the rows that were fitted, by measure."""
    held_out: dict[str, Summary]
    """Errors on those that were not."""
    num_rows: int
    rows: str
    """What a row is, in the plural."""
    kv_tokens: int | None = None
    """As the engine told it."""
    doubts: tuple[str, ...] = field(default=())
    """What could not be told, a sentence each."""

    @property
    def values(self) -> dict[str, float]:
        """The coefficients that were told, in seconds."""
        found = {name: getattr(self.cost, name, self.request_seconds) for name in self.told}
        return {name: float(value) for name, value in found.items()}


def cost_of(coefficients: np.ndarray) -> StepCost:
    """Give the closed form of overhead, prefill token, sequence and context token, in this order."""
    overhead, prefill, sequence, context = map(float, coefficients[:4])
    return StepCost.linear(overhead, prefill, sequence, context)
