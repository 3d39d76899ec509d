"""Fits the engine's closed form to times of steps, or of operators, on a grid: weighted least squares, never below 0.

Every fit here weighs errors by the time they are of, because an error of 1 ms in a step of 5 ms is what one notices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.optimize import nnls

Knots = tuple[tuple[float, float], ...]


def decode_form(samples: Sequence[tuple[float, float, float]], most_tokens: float = 1e6) -> tuple[Knots, float]:
    """Fit (batch, context of each, seconds) by a time per batch and a time per token of context.

    Beyond `most_tokens` of context in the batch, which few replicas can hold, errors count a tenth.
    """
    batch, context, seconds = (np.array(column, dtype=float) for column in zip(*samples, strict=True))
    batches = np.unique(batch)
    design = np.zeros((len(seconds), len(batches) + 1))
    design[np.arange(len(seconds)), np.searchsorted(batches, batch)] = 1.0
    design[:, -1] = batch * context
    weight = np.where(batch * context <= most_tokens, 1.0, 0.1) / seconds
    found = weighted(design, seconds, weight)
    return rising(zip(batches, found[:-1], strict=True)), float(found[-1])


def prefill_attention_form(samples: Sequence[tuple[float, float]], steps: Sequence[float]) -> tuple[float, ...]:
    """Fit (prompt tokens, seconds of attention) by (a constant, a time per token, a time per pair of tokens).

    `steps` are the times of the whole steps, by which errors are weighed.
    """
    tokens, seconds = (np.array(column, dtype=float) for column in zip(*samples, strict=True))
    design = np.stack([np.ones_like(tokens), tokens, tokens**2 / 2], axis=1)
    return tuple(float(value) for value in weighted(design, seconds, 1.0 / np.array(steps, dtype=float)))


def weighted(design: np.ndarray, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Solve design · x = target in weighted least squares with x ≥ 0."""
    scale = np.abs(design).max(axis=0)
    scale[scale == 0] = 1.0
    solution, _ = nnls(design / scale * weight[:, None], target * weight)
    return np.asarray(solution / scale)


def rising(knots: Iterable[tuple[float, float]]) -> Knots:
    """Make knots never fall: more work takes no less time, whatever a noisy table says."""
    highest, found = 0.0, []
    for count, seconds in sorted(knots):
        highest = max(highest, float(seconds))
        found.append((float(count), highest))
    return tuple(found)


def thinned(knots: Sequence[tuple[float, float]], tolerance: float) -> Knots:
    """Drop knots that straight lines between their neighbours tell within a relative `tolerance`."""
    if len(knots) < 3:
        return tuple(knots)
    (left, low), (right, high) = knots[0], knots[-1]
    errors = [abs(low + (high - low) * (at - left) / (right - left) - value) / max(value, 1e-12) for at, value in knots]
    worst = int(np.argmax(errors))
    if errors[worst] <= tolerance:
        return (knots[0], knots[-1])
    return thinned(knots[: worst + 1], tolerance)[:-1] + thinned(knots[worst:], tolerance)
