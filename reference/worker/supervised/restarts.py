"""How often an engine is started again, and how long to wait before: a backoff with a limit. Knows no clock."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Restarts:
    """Counts the ends of an engine that follow upon each other; one that has served long enough starts anew at 0."""

    max_restarts: int
    base_seconds: float
    max_seconds: float
    stable_seconds: float
    """Ready for so long, and what ended it is no longer the same trouble."""
    count: int = field(default=0, init=False)

    def after(self, ready_seconds: float) -> float | None:
        """Return how long to wait before the next start; None: it has been enough."""
        if ready_seconds >= self.stable_seconds:
            self.count = 0
        self.count += 1
        if self.count > self.max_restarts:
            return None
        # the exponent is bounded so that a large limit cannot overflow
        return min(self.max_seconds, self.base_seconds * 2.0 ** min(self.count - 1, 60))
