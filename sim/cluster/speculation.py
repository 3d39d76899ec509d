"""Speculative decoding as a step cost: what a token costs when a step checks several proposed ones.

A step that checks k proposed tokens of each sequence computes k + 1 tokens for it and keeps, on average,
E = 1 + a + a² + ... + aᵏ of them (a: acceptance), after Leviathan et al. 2023, arXiv 2211.17192, equation 1. The engine
counts steps by tokens, so its decode step becomes such a step's E-th part: rates, batches and memory are right, the
tokens of one check come evenly spaced and not together. Prompts are computed as before.
"""

from __future__ import annotations

from dataclasses import replace

from reference.engine.step_cost import StepCost

_LARGEST_BATCH = 1024


def tokens_per_step(tokens: int, acceptance: float) -> float:
    """Return how many tokens a step that checks `tokens` proposed ones brings a sequence, on average."""
    return sum(acceptance**place for place in range(tokens + 1))


def with_speculation(cost: StepCost, tokens: int, acceptance: float, draft_seconds: float = 0.0) -> StepCost:
    """Return the cost with `tokens` proposed per step; `draft_seconds` is what proposing each of them adds.

    A step's floor (overhead, and reading the weights for one token) is shared by the tokens it brings; a step that
    computes a prompt pays it whole. The tokens checked do not count towards `max_num_batched_tokens`.
    """
    gain = tokens_per_step(tokens, acceptance)
    by_tokens = replace(cost, overhead=0.0, per_sequence=0.0, sequence_seconds=())

    def computing(count: int) -> float:
        return by_tokens.seconds(0, count, 0, 0, 0.0)

    one = computing(1)
    floor = cost.overhead + one
    drafting = draft_seconds * tokens
    knots = []
    for batch in _batches():
        sampling = cost.decode_affine(batch)[0] - cost.overhead - computing(batch)
        checking = computing(batch * (tokens + 1)) - one + sampling
        knots.append((float(batch), max(0.0, checking / gain - (computing(batch) - one))))
    return replace(
        cost,
        overhead=(floor + drafting) / gain,
        token_seconds=tuple((count, max(0.0, seconds - one)) for count, seconds in cost.token_seconds),
        per_sequence=0.0,
        sequence_seconds=tuple(knots),
        per_context_token=cost.per_context_token / gain,
        mixed_overhead=max(0.0, cost.mixed_overhead + floor * (1.0 - 1.0 / gain) - drafting / gain),
        mixed_context=cost.mixed_context / gain,
    )


def _batches() -> list[int]:
    found, batch = [], 1
    while batch <= _LARGEST_BATCH:
        found.append(batch)
        batch = batch + 1 if batch < 8 else batch * 5 // 4
    return found
