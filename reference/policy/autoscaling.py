"""How many replicas a pool should have: target tracking as Kubernetes' HorizontalPodAutoscaler does it.

desired = ceil(current · metric / target), left alone within the tolerance; a scale-down waits for the highest
recommendation of the stabilisation window (kubernetes.io, "Horizontal Pod Autoscaling", algorithm details).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class AutoscalerSettings:
    """Of one pool. `target` is the metric's wanted mean per ready replica."""

    min_replicas: int
    max_replicas: int
    target: float
    tolerance: float = 0.1
    stabilisation_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class ScaleDecision:
    """How many replicas there should be, and why."""

    replicas: int
    reason: str


class HorizontalAutoscaler:
    """Decides for one pool. Remembers its own recommendations for the length of the stabilisation window."""

    def __init__(self, settings: AutoscalerSettings) -> None:
        self.settings = settings
        self._recommended: deque[tuple[float, int]] = deque()

    def decide(self, *, replicas: int, readings: list[float], now: float) -> ScaleDecision:
        """Decide from the metric of each ready replica; `replicas` counts those that start up too.

        A replica without a reading is taken at 0 when the others ask for more and at the target when they ask for
        fewer, so that what is not known never enlarges a step.
        """
        wanted, reason = self._recommend(replicas, readings)
        bounded = min(max(wanted, self.settings.min_replicas), self.settings.max_replicas)
        if bounded != wanted:
            reason = f"{reason}, bounded to {bounded}"
        self._recommended.append((now, bounded))
        while self._recommended[0][0] < now - self.settings.stabilisation_seconds:
            self._recommended.popleft()
        if bounded < replicas:
            highest = min(replicas, max(count for _, count in self._recommended))
            if highest > bounded:
                return ScaleDecision(highest, f"{reason}; {highest} were wanted within the stabilisation window")
        return ScaleDecision(bounded, reason)

    def _recommend(self, replicas: int, readings: list[float]) -> tuple[int, str]:
        target = self.settings.target
        if not readings:
            return replicas, "no replica reports"
        mean = sum(readings) / len(readings)
        if abs(mean / target - 1.0) <= self.settings.tolerance:
            return replicas, f"mean {mean:.3g} is within {self.settings.tolerance:.0%} of {target:g}"
        missing = max(0, replicas - len(readings))
        total = sum(readings) + (0.0 if mean > target else missing * target)
        ratio = total / (len(readings) + missing) / target
        if abs(ratio - 1.0) <= self.settings.tolerance or (ratio > 1.0) != (mean > target):
            return replicas, f"mean {mean:.3g} asks for another number, replicas that start up already answer it"
        # rounded first: 3 replicas at exactly 4/3 of the target are 4, not 5 by the last bit of a float
        return ceil(round(ratio * (len(readings) + missing), 9)), f"mean {mean:.3g} against a target of {target:g}"
