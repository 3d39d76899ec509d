"""What a step costs: a closed form over the batch, small enough to travel as JSON from a hardware model to a worker.

seconds = overhead
        + token_seconds(T)                      T: tokens computed in the step; piecewise linear
        + per_prefill_token · P                 P: prompt tokens among them
        + per_sequence · B                      B: sequences in the step
        + sequence_seconds(B)                   piecewise linear
        + per_context_token · S                 S: tokens attended to by all decoding sequences together, and
                                                context_skew · (B · the longest of them − S) more
        + per_prefill_pair · Σ q·(c + q/2)      q: chunk of a prompt, c: tokens computed before it
        + mixed_overhead + mixed_context · S    only in a step with P > 0: it runs outside the decode graph, and its
                                                attention kernel is another

For a batch that only decodes this is affine in S, which is what lets the engine leap; what the longest sequence adds
stays the same while a batch does, because all of it grow by a token a step. Time is counted in ticks of
2**-36 s (15 ps): step times are whole ticks, so sums are exact and k steps at once equal k single steps bit for bit;
up to 2**17 s (36 hours) a tick count is exact as a float, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from reference.engine.sequence import EngineError

TICKS_PER_SECOND: Final = 2**36


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """The step time of one replica in seconds. Immutable; made by a hardware model, a fit, or `linear`.

    Raises:
        EngineError: a coefficient is negative, or the knots of `token_seconds` are not in ascending order.
    """

    overhead: float = 0.0
    token_seconds: tuple[tuple[float, float], ...] = ()
    """Knots (tokens, seconds), ascending; straight lines between them, the first value before, the last slope after."""
    per_prefill_token: float = 0.0
    per_sequence: float = 0.0
    per_context_token: float = 0.0
    per_prefill_pair: float = 0.0
    sequence_seconds: tuple[tuple[float, float], ...] = ()
    """Knots (sequences, seconds), read as those of `token_seconds`."""
    mixed_overhead: float = 0.0
    mixed_context: float = 0.0
    context_skew: float = 0.0
    """How far a step waits for its longest sequence, 0 to 1: at 1 all cost as much as the longest one."""

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            if not getattr(self, name) >= 0:
                raise EngineError(f"step cost: {name} is {getattr(self, name)}; it must be 0 or more")
        for name, knots in (("token_seconds", self.token_seconds), ("sequence_seconds", self.sequence_seconds)):
            for (left, _), (right, _) in itertools.pairwise(knots):
                if left >= right:
                    raise EngineError(f"step cost: {name} has knot {right} after {left}; knots must ascend")
            if any(not value >= 0 for _, value in knots):
                raise EngineError(f"step cost: {name} has a negative or undefined time")

    @classmethod
    def linear(
        cls, base: float, per_prefill_token: float = 0.0, per_sequence: float = 0.0, per_context_token: float = 0.0
    ) -> StepCost:
        """Give the step time outright, as `step_cost` of a scenario does."""
        return cls(
            overhead=base,
            per_prefill_token=per_prefill_token,
            per_sequence=per_sequence,
            per_context_token=per_context_token,
        )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> StepCost:
        """Read what `to_dict` wrote.

        Raises:
            EngineError: a field is unknown or is not a number.
        """
        known = set(cls.__dataclass_fields__)
        if unknown := sorted(set(fields) - known):
            raise EngineError(f"step cost: unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}")
        try:
            tokens = tuple((float(count), float(value)) for count, value in fields.get("token_seconds", ()))
            sequences = tuple((float(count), float(value)) for count, value in fields.get("sequence_seconds", ()))
            rest = {name: float(value) for name, value in fields.items() if name in _NUMBERS}
        except (TypeError, ValueError) as error:
            raise EngineError(f"step cost: {error}") from error
        return cls(token_seconds=tokens, sequence_seconds=sequences, **rest)

    def to_dict(self) -> dict[str, Any]:
        """Give the closed form as JSON values."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("token_seconds", "sequence_seconds"):
            fields[name] = [list(knot) for knot in getattr(self, name)]
        return fields

    def seconds(
        self, num_sequences: int, num_tokens: int, context_tokens: int, prefill_tokens: int, prefill_pairs: float
    ) -> float:
        """Give the time of one step; the arguments are B, T, S, P and Σ q·(c + q/2) of the module's formula."""
        time = (
            self.overhead
            + _piecewise(self.token_seconds, num_tokens)
            + self.per_prefill_token * prefill_tokens
            + self.per_sequence * num_sequences
            + self.per_context_token * context_tokens
            + self.per_prefill_pair * prefill_pairs
        )
        if self.sequence_seconds:
            time += _piecewise(self.sequence_seconds, num_sequences)
        if prefill_tokens:
            time += self.mixed_overhead + self.mixed_context * context_tokens
        return time

    def decode_affine(self, num_sequences: int) -> tuple[float, float]:
        """Give (fixed, per_context_token): a step that decodes `num_sequences` takes fixed + per_context_token · S."""
        fixed = self.overhead + _piecewise(self.token_seconds, num_sequences) + self.per_sequence * num_sequences
        return fixed + _piecewise(self.sequence_seconds, num_sequences), self.per_context_token


_NUMBERS: Final = (
    "overhead",
    "per_prefill_token",
    "per_sequence",
    "per_context_token",
    "per_prefill_pair",
    "mixed_overhead",
    "mixed_context",
    "context_skew",
)


def _piecewise(knots: tuple[tuple[float, float], ...], count: float) -> float:
    """Read knots at `count`: the first value before them, straight lines between, the last slope after."""
    if not knots:
        return 0.0
    if count <= knots[0][0] or len(knots) == 1:
        return knots[0][1]
    index = 1
    while index < len(knots) - 1 and count > knots[index][0]:
        index += 1
    (left, low), (right, high) = knots[index - 1], knots[index]
    return max(0.0, low + (high - low) * (count - left) / (right - left))
