"""Pipeline parallelism as a step cost: what a step costs when the layers stand behind each other on p stages.

A pipeline is full when p micro-batches are in it. Each sequence is in one of them and gets a token each time that one
is through, so decoding B sequences takes what B/p would take without a pipeline (each stage has 1/p of the layers and
does p micro-batches meanwhile), and p − 1 hops of activations:

    seconds(B, ...) = seconds of one stage's GPUs with all layers, at B/p sequences and S/p tokens of context
                    + (p − 1) · (hop + bytes of B/p tokens over the link)

A prompt's chunk is not divided: it goes through all stages as one micro-batch and takes its whole time. With one chunk
a step this is exact for a prompt in a pipeline that has nothing else to do, and cautious for one full of prompts, which
does up to p chunks in that time. (A mixture's prompt so short that it meets only some experts is taken to meet those of
its p-th part, and is too fast by that.) Stages are taken as equal, and micro-batches too: there are no bubbles. The
engine's own host time is paid once per micro-batch, beside the others'.
"""

from __future__ import annotations

from dataclasses import replace

from reference.engine import StepCost


def with_pipeline(cost: StepCost, stages: int, hop_seconds: float, hop_seconds_per_token: float) -> StepCost:
    """Return the cost in a pipeline of `stages`; `cost` is that of all layers on the GPUs of one stage."""
    if stages == 1:
        return cost
    hops = stages - 1
    spread = 1.0 - 1.0 / stages
    per_token = hops * hop_seconds_per_token
    return replace(
        cost,
        overhead=cost.overhead + hops * hop_seconds,
        token_seconds=tuple((count * stages, seconds + per_token * count) for count, seconds in cost.token_seconds),
        per_prefill_token=cost.per_prefill_token + (_last_slope(cost) + per_token) * spread,
        per_sequence=cost.per_sequence / stages,
        sequence_seconds=tuple((count * stages, seconds) for count, seconds in cost.sequence_seconds),
        per_context_token=cost.per_context_token / stages,
        mixed_context=cost.mixed_context / stages,
    )


def _last_slope(cost: StepCost) -> float:
    """Seconds per token where a step is long enough to be compute-bound."""
    if len(cost.token_seconds) < 2:
        return 0.0
    (left, low), (right, high) = cost.token_seconds[-2:]
    return (high - low) / (right - left)
