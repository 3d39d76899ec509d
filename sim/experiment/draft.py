"""A workload on its way: requests as columns, and the account of where each row went.

Belongs to the makers of workloads (`recorded`, `drawn`, `prompts`); `generate` turns a finished draft into requests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import compress
from typing import TYPE_CHECKING, Any

from sim.experiment.traces.rows import Prompt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(slots=True)
class Draft:
    """Requests in order of time, one place in every column each. Born from a trace or from arrivals, then refined."""

    at: NDArray[np.float64]
    """Seconds since the start of what is flown."""
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    prompts: list[Prompt]
    sessions: list[str]
    """Empty strings where a request stands alone."""
    duration: float
    num_read: int
    classes: NDArray[np.int64]
    """Place of each request's class in the scenario."""
    dropped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.at)

    def keep(self, kept: NDArray[np.bool_], reason: str) -> None:
        """Drop every row that is not kept, and say why."""
        lost = len(self) - int(kept.sum())
        if not lost:
            return
        self.dropped[reason] += lost
        self.at, self.classes = self.at[kept], self.classes[kept]
        self.input_tokens, self.output_tokens = self.input_tokens[kept], self.output_tokens[kept]
        self.prompts, self.sessions = _kept(self.prompts, kept), _kept(self.sessions, kept)

    def in_order_of_time(self) -> None:
        """Sort the rows by time; those of one instant stay as they were."""
        import numpy as np

        order = np.argsort(self.at, kind="stable")
        self.at, self.classes = self.at[order], self.classes[order]
        self.input_tokens, self.output_tokens = self.input_tokens[order], self.output_tokens[order]
        places = order.tolist()
        self.prompts, self.sessions = [self.prompts[p] for p in places], [self.sessions[p] for p in places]


def _kept(column: list[Any], kept: Iterable[Any]) -> list[Any]:
    return list(compress(column, kept))
