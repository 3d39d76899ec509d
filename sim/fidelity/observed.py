"""What was measured of one replica, in three depths: requests, intervals of an engine's log, single steps.

A client sees requests. An engine's log sums up what happened in ten seconds. Some engines tell each step. Which of them
there is decides what a fit can tell (`sim.fidelity.calibration`). Shapes are (rows,); times in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Requests that one replica served, in order of sending. Seconds from any zero."""

    sent: np.ndarray
    input_tokens: np.ndarray
    output_tokens: np.ndarray
    ttft: np.ndarray
    tpot: np.ndarray
    """NaN for an answer of one token."""
    cached_tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.sent)

    @property
    def e2e(self) -> np.ndarray:
        """From sending to the last token."""
        gaps = np.maximum(self.output_tokens - 1, 0)
        return np.asarray(self.ttft + np.where(gaps > 0, self.tpot * gaps, 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Lines of an engine's log: rates over an interval, and counts at its two ends."""

    running_before: np.ndarray
    running_after: np.ndarray
    prompt_rate: np.ndarray
    """Tokens per second."""
    generation_rate: np.ndarray
    """Tokens per second."""
    context_before: np.ndarray
    """Tokens held by running sequences: KV cache usage times capacity. NaN where the capacity is unknown."""
    context_after: np.ndarray

    def __len__(self) -> int:
        return len(self.generation_rate)

    @property
    def running(self) -> np.ndarray:
        """The mean of both ends."""
        return np.asarray((self.running_before + self.running_after) / 2)

    @property
    def context(self) -> np.ndarray:
        """The mean of both ends."""
        return np.asarray((self.context_before + self.context_after) / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Steps one by one, in their order."""

    seconds: np.ndarray
    sequences: np.ndarray
    prompt_tokens: np.ndarray
    context_tokens: np.ndarray
    """Attended to by decoding sequences. NaN where it is not told."""

    def __len__(self) -> int:
        return len(self.seconds)


Measured = Observed | Intervals | Steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What was read from somewhere."""

    what: str
    """A few words on what it is."""
    measured: Measured
    kv_tokens: int | None = None
    """KV capacity of the replica in tokens, where the engine told it."""
    notes: tuple[str, ...] = field(default=())
    """What whoever believes the fit should know of it, a sentence each."""
