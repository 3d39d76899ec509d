"""A measured row as the simulator predicts it: the row's loop, flown through the engine at corrected operator times."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from sim.fidelity.closed_loop import fly
from sim.fidelity.correction import Correction, Drive
from sim.fidelity.harness import loop_of, profile_of, settings_of, tokens_before_first
from sim.fidelity.rows import Row


class Measured(Protocol):
    """A row, of one replica or of several."""

    @property
    def ttft(self) -> float:
        """The mean, in seconds."""

    @property
    def tpot(self) -> float:
        """The mean, in seconds."""

    @property
    def output_tokens(self) -> int:
        """An answer's nominal length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """Means over the row's requests, in seconds."""

    ttft: float
    tpot: float

    def e2e(self, output_tokens: float) -> float:
        """From sending to the last token of an answer of so many tokens."""
        return self.ttft + self.tpot * max(0.0, output_tokens - 1)

    def error(self, measure: str, row: Measured) -> float:
        """Predicted / measured - 1 of `ttft`, `tpot` or `e2e`."""
        measured = Predicted(ttft=row.ttft, tpot=row.tpot)
        if measure == "e2e":
            return self.e2e(row.output_tokens) / measured.e2e(row.output_tokens) - 1
        return float(getattr(self, measure) / getattr(measured, measure) - 1)


def predict(row: Row, correction: Correction, drive: Drive, *, with_streaming: bool = True) -> Predicted:
    """Fly the row's clients against one replica.

    A first chunk of n tokens comes n - 1 steps later than the first token; `with_streaming` counts them.

    Raises:
        HardwareError: there are no operator times for the row.
    """
    profile = profile_of(row)
    loop = replace(loop_of(row, drive), request_seconds=correction.request_seconds)
    times = fly(settings_of(row, profile, drive), correction.applied_to(profile), loop)
    waits = tokens_before_first(row) - 1 if with_streaming else 0
    return Predicted(ttft=times.mean_ttft + waits * times.mean_tpot, tpot=times.mean_tpot)
