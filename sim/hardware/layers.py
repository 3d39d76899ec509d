"""Profiles out of layer times of one card, as LLMServingSim 2 measures them: per-operator microseconds on a grid.

Three tables of one layer's operators: `dense` by tokens of the step, `per_sequence` by sequences (language-model head
and sampler), `attention` by prompt chunk, what the prompt has computed before, decoding sequences and context of each.
A layer's operators count once a layer, those around the layers once a step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from reference.engine import StepCost
from sim.hardware.closed_form import Knots, rising, thinned, weighted
from sim.hardware.profile import Profile

ONCE_A_STEP: Final = ("embedding", "final_layernorm")
TWICE_A_LAYER: Final = ("layernorm",)
KNOT_TOLERANCE: Final = 0.003
MOST_CONTEXT: Final = 60_000
"""Tokens of context in a batch up to which the attention fit is held, where it is not said what the card holds."""


def profile_from_layers(
    dense: Iterable[Mapping[str, str]],
    per_sequence: Iterable[Mapping[str, str]],
    attention: Iterable[Mapping[str, str]],
    *,
    num_layers: int,
    name: str,
    source: str,
    overhead_seconds: float = 0.0,
    most_context: int = MOST_CONTEXT,
    context_skew: float = 0.0,
    **keys: Any,
) -> Profile:
    """Sum the layers and fit attention; `overhead_seconds` is host time per step, which layer times do not hold.

    `most_context` is what the card's KV cache holds in tokens. The grid has sequences of equal length only;
    `context_skew` is what was measured of unequal ones (see `StepCost`).
    """
    by_tokens = _dense(dense, num_layers)
    by_sequences = _summed(per_sequence, "sequences", lambda _: 1.0)
    fixed, graphed, mixed = _attention(attention, num_layers, by_tokens, most_context)
    cost = StepCost(
        overhead=overhead_seconds,
        token_seconds=thinned(rising(by_tokens.items()), KNOT_TOLERANCE),
        sequence_seconds=thinned(rising(_together(by_sequences, dict(fixed)).items()), KNOT_TOLERANCE),
        per_context_token=graphed["per_context"],
        per_prefill_token=mixed["per_token"],
        per_prefill_pair=mixed["per_pair"],
        mixed_overhead=mixed["constant"],
        mixed_context=max(0.0, mixed["per_context"] - graphed["per_context"]),
        context_skew=context_skew,
    )
    residuals = {"decode_attention_median": graphed["error"], "mixed_attention_median": mixed["error"]}
    return Profile(
        name=name,
        cost=cost,
        source=source,
        keys=keys,
        residuals={what: round(value, 4) for what, value in residuals.items()},
    )


def _dense(table: Iterable[Mapping[str, str]], num_layers: int) -> dict[float, float]:
    def times(layer: str) -> float:
        if layer in ONCE_A_STEP:
            return 1.0
        return 2.0 * num_layers if layer in TWICE_A_LAYER else float(num_layers)

    return _summed(table, "tokens", times)


def _summed(table: Iterable[Mapping[str, str]], count: str, times: Any) -> dict[float, float]:
    total: dict[float, float] = defaultdict(float)
    for entry in table:
        total[float(entry[count])] += float(entry["time_us"]) * 1e-6 * times(entry["layer"])
    return dict(sorted(total.items()))


def _together(first: Mapping[float, float], second: Mapping[float, float]) -> dict[float, float]:
    """Add two piecewise linear times up, at the knots of both."""
    return {
        at: sum(float(np.interp(at, list(knots), list(knots.values()))) for knots in (first, second))
        for at in sorted({*first, *second})
    }


def _attention(
    table: Iterable[Mapping[str, str]], num_layers: int, by_tokens: Mapping[float, float], most_context: int
) -> tuple[Knots, dict[str, float], dict[str, float]]:
    """Fit decode-only steps and mixed ones each: kernels differ, and so do the times per token of context.

    Attention of a batch that decodes is a time per batch size and a time per token of context. An error weighs by the
    time of the whole step that it is part of.
    """
    rows = np.array(
        [
            [float(entry[name]) for name in ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us")]
            for entry in table
        ]
    )
    chunk, before, batch, context, seconds = rows.T
    seconds = seconds * 1e-6 * num_layers
    held = batch * context <= most_context
    alone = held & (chunk == 0) & (batch > 0)
    together = held & (chunk > 0) & (before <= 4096)
    steps = seconds + np.interp(chunk + batch, list(by_tokens), list(by_tokens.values()))
    fixed, per_context = _decoding(batch[alone], context[alone], seconds[alone], steps[alone])
    at, value = zip(*fixed, strict=True)
    known = np.where(batch > 0, np.interp(batch, at, value), 0.0)
    told = known + per_context * batch * context
    graphed = {"per_context": per_context, "error": float(np.median((np.abs(told - seconds) / steps)[alone]))}
    design = np.stack([np.ones_like(chunk), chunk, chunk * (before + chunk / 2), batch * context], axis=1)
    target = np.maximum(seconds - known, 0.0)
    found = weighted(design[together], target[together], 1.0 / steps[together])
    mixed = dict(zip(("constant", "per_token", "per_pair", "per_context"), map(float, found), strict=True))
    mixed["error"] = float(np.median((np.abs(known + design @ found - seconds) / steps)[together]))
    return fixed, graphed, mixed


def _decoding(batch: np.ndarray, context: np.ndarray, seconds: np.ndarray, steps: np.ndarray) -> tuple[Knots, float]:
    """Fit a time per batch size and a time per token of context; errors weigh by the time of the step."""
    sizes = np.unique(batch)
    design = np.zeros((len(batch), len(sizes) + 1))
    design[np.arange(len(batch)), np.searchsorted(sizes, batch)] = 1.0
    design[:, -1] = batch * context
    found = weighted(design, seconds, 1.0 / steps)
    return rising(zip(sizes, found[:-1], strict=True)), float(found[-1])
