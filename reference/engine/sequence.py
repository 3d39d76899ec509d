"""A request as one replica sees it, what becomes visible of it from outside, and why it may be refused.

Knows nothing of queues or time. `Sequence` is the engine's own record of a request: the caller fills in what is asked,
the scheduler keeps the progress in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from reference.engine.block_pool import Block

from_fields: Final = tuple.__new__
"""`from_fields(Event, (kind, ...))` is `Event(kind, ...)` in half the time."""

FIRST_TOKEN: Final = "first_token"
FINISHED: Final = "finished"
RESUMED: Final = "resumed"
"""The first token since a preemption; not visible from outside."""


class EngineError(Exception):
    """The engine was used against its contract: settings that exclude each other, a sequence submitted twice.

    The base of every error of this package.
    """


@dataclass(frozen=True, slots=True)
class Rejected:
    """The engine will never serve this sequence. `status` is the HTTP status its edge should answer with."""

    reason: str
    status: int = 400


class Event(NamedTuple):
    """Something of a sequence that is visible from outside."""

    kind: str
    """FIRST_TOKEN or FINISHED."""
    request_id: str | int
    at: float
    """Seconds: the end of the step that brought it."""
    output_tokens: int
    """Tokens generated so far, this one included."""
    cached_tokens: int
    """Input tokens that the prefix cache held when the sequence was first admitted."""


class Emission(NamedTuple):
    """A token that a step brought a sequence (the worker's way of driving)."""

    request_id: str | int
    output_tokens: int
    """Tokens generated so far, this one included."""
    is_finished: bool
    cached_tokens: int


class Sequence:
    """A request in an engine. Made by the caller, submitted once, then written by the engine only until it ends.

    `block_hashes` are the chained hashes (`reference.tokens`) of the full blocks of the prompt, of the engine's block
    size; they may go on past the prompt into the answer, whose blocks become reusable once the sequence ends. Empty: a
    prompt that shares nothing with any other, at no cost per block.

    `output_tokens` is how long the answer will be: a secret of the engine. `max_output_tokens` is what the client
    declared; rules that reserve KV blocks up to the end reserve for it (None: as if `output_tokens` were declared).

    Of prefill/decode disaggregation: a sequence that `keeps_kv` gets its one token and ends, and its blocks stay taken
    until `Engine.release`; `handed_over` makes the one that goes on elsewhere.

    Raises:
        EngineError: it keeps its KV and has more than one token to come.
    """

    __slots__ = (
        "admission",
        "block_hashes",
        "blocks",
        "cached_tokens",
        "computed",
        "finish_step",
        "generated",
        "input_tokens",
        "is_handed_over",
        "is_leaving",
        "joined",
        "keeps_kv",
        "last_token_tick",
        "max_output_tokens",
        "offset",
        "output_tokens",
        "prefill_target",
        "request_id",
        "reserved",
        "state",
        "survivors",
    )

    def __init__(
        self,
        request_id: str | int,
        input_tokens: int,
        output_tokens: int,
        block_hashes: tuple[int, ...] = (),
        max_output_tokens: int | None = None,
        keeps_kv: bool = False,
    ) -> None:
        if keeps_kv and output_tokens != 1:
            raise EngineError(f"{request_id}: keeps its KV with {output_tokens} tokens to come; expected 1")
        self.request_id = request_id
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.block_hashes = block_hashes
        self.max_output_tokens = max_output_tokens
        self.keeps_kv = keeps_kv
        self.is_handed_over = False
        """The KV of its prompt comes from another replica; until the first step here is over."""
        self.state = NEW
        self.generated = 0
        self.computed = 0
        """Tokens with KV while prefilling (decoding keeps `offset` instead)."""
        self.prefill_target = input_tokens
        """Tokens to compute before the next token comes: the prompt, and after a preemption the answer so far."""
        self.cached_tokens = 0
        self.admission = 0
        self.offset = 0
        """Length (prompt and answer) minus the number of steps of the scheduler, constant while decoding."""
        self.joined = 0
        """The scheduler's step count when it began to decode."""
        self.finish_step = 0
        self.last_token_tick = 0
        """When the last token before a preemption came."""
        self.is_leaving = False
        """Aborted while its step runs: it leaves at the boundary."""
        self.reserved = 0
        """Blocks it may grow to, under rules that reserve."""
        self.blocks: list[Block] | None = None
        """Its blocks with a hash, prefix first; the others are only counted."""
        self.survivors: Block | None = None
        """After a preemption: the run of its anonymous blocks in the free queue, to be found again if not evicted."""

    def __repr__(self) -> str:
        return (
            f"<Sequence {self.request_id} {self.state}: {self.input_tokens} in, "
            f"{self.generated} of {self.output_tokens} out>"
        )


def handed_over(
    request_id: str | int,
    input_tokens: int,
    output_tokens: int,
    block_hashes: tuple[int, ...] = (),
    *,
    first_token_tick: int | None = None,
    cached_tokens: int = 0,
) -> Sequence:
    """Make a sequence whose prompt another replica has computed; its KV is here.

    `first_token_tick` says when its first token came there, and then it has at least one more to come; None: its first
    token is computed here, from the last token of the prompt, as vLLM's decode instances do it. `cached_tokens` is what
    the other replica's prefix cache held.
    """
    sequence = Sequence(request_id, input_tokens, output_tokens, block_hashes)
    sequence.is_handed_over = True
    sequence.cached_tokens = cached_tokens
    if first_token_tick is not None:
        sequence.generated = 1
        sequence.prefill_target = input_tokens + 1
        sequence.last_token_tick = first_token_tick
    return sequence


NEW: Final = "new"
WAITING: Final = "waiting"
PREFILLING: Final = "prefilling"
DECODING: Final = "decoding"
ENDED: Final = "ended"
