"""The sequences of a replica that decode: each gets a token in every step, so together they are a few numbers.

A batch that only decodes is a count, a sum of contexts and a heap of the steps at which its members finish. Its members
need their next KV block each `block_size` steps, so a histogram over residues says how many blocks any step takes.

Nobody can tell when a block was taken from the head of a queue that grows at its tail only. So decoding takes none
until somebody asks what is free or cached: `settle`. In between `recorded` is what the pool knows to be taken.
"""

from __future__ import annotations

from heapq import heappop, heappush
from operator import mul
from typing import Final

from reference.engine.sequence import DECODING, Sequence

# compiled, a final name of this module costs no look-up
_push: Final = heappush
_pop: Final = heappop


class DecodeBatch:
    """Who decodes, as counts. Sequences `join` when their prefill ends and `part` when they finish or are preempted.

    `step` counts the steps taken. Between deciding a step and completing it (`is_decided`) the blocks of that step,
    too, are held: those of lengths up to `level`.
    """

    __slots__ = (
        "_block_size",
        "_residues",
        "_slacks",
        "context_tokens",
        "finishing",
        "is_decided",
        "num_sequences",
        "recorded",
        "settled",
        "step",
    )

    def __init__(self, block_size: int) -> None:
        self.step = 0
        self.is_decided = False
        self.num_sequences = 0
        self.context_tokens = 0
        """Tokens that all members together attend to in the next step: their lengths."""
        self.recorded = 0
        """Blocks of members that the pool knows to be taken."""
        self.settled = -1
        """The level up to which `recorded` is all that members hold, those apart who joined since."""
        self._block_size = block_size
        self._residues = [0] * block_size
        """How many members need a block in the steps whose number is minus the index, modulo block size."""
        self._slacks = [*range(block_size - 1, -1, -1)] * 2
        self.finishing: list[tuple[int, int, Sequence]] = []
        """Heap of (finishing step, admission, sequence); entries of sequences that left early are skipped when met."""

    @property
    def level(self) -> int:
        """A member of offset o holds the blocks of o + level tokens."""
        return self.step if self.is_decided else self.step - 1

    def join(self, sequence: Sequence) -> None:
        """Take in a sequence whose first token (or first since a preemption) the last step brought."""
        step = self.step
        length = sequence.input_tokens + sequence.generated
        offset = sequence.offset = length - step
        sequence.state = DECODING
        sequence.joined = step
        finish_step = sequence.finish_step = step + sequence.output_tokens - sequence.generated
        self.num_sequences += 1
        self.context_tokens += length
        size = self._block_size
        self.recorded += (length + size - 2) // size
        self._residues[(offset - 1) % size] += 1
        _push(self.finishing, (finish_step, sequence.admission, sequence))

    def part(self, sequence: Sequence) -> tuple[int, int, int]:
        """Let a member go between two steps; give (computed tokens, blocks it holds, blocks of them not yet taken)."""
        size = self._block_size
        offset = sequence.offset
        length = offset + self.step
        held = (length + size - 2) // size
        level = self.settled if self.settled >= sequence.joined else sequence.joined - 1
        recorded = (offset + level + size - 1) // size
        self.num_sequences -= 1
        self.context_tokens -= length
        self.recorded -= recorded
        self._residues[(offset - 1) % size] -= 1
        return length - 1, held, held - recorded

    def take_finished(self) -> list[Sequence]:
        """Give those that finish with the step just taken, in order of admission."""
        step = self.step
        finishing = self.finishing
        finished = []
        while finishing and finishing[0][0] <= step:
            due, _, sequence = _pop(finishing)
            if sequence.finish_step == due == step and sequence.state is DECODING:
                finished.append(sequence)
        return finished

    def steps_to_finish(self) -> int:
        """Count the steps until the next member finishes. Only when there are members."""
        finishing = self.finishing
        while True:
            finish_step, _, sequence = finishing[0]
            if sequence.finish_step == finish_step and sequence.state is DECODING:
                return finish_step - self.step
            _pop(finishing)

    def settle(self) -> int:
        """Give the blocks to be taken from the pool, so that `recorded` is what members hold."""
        level = self.step if self.is_decided else self.step - 1
        if level == self.settled:
            return 0
        self.settled = level
        held = self.held_after(0)
        growth = held - self.recorded
        self.recorded = held
        return growth

    def held_after(self, steps: int) -> int:
        """Count the blocks that members hold once so many more steps have passed.

        (The sum of lengths + the free places in their last blocks) / block size.
        """
        count = self.num_sequences
        if not count:
            return 0
        level = self.step + steps if self.is_decided else self.step + steps - 1
        size = self._block_size
        first = level % size
        slack: int = sum(map(mul, self._residues, self._slacks[first : first + size]))
        return (self.context_tokens - count * (self.step - level) + slack) // size

    def blocks_now(self) -> int:
        """Count the blocks that the next step takes, once settled."""
        return self._residues[-self.step % self._block_size]

    def needs_block(self, sequence: Sequence) -> bool:
        """Whether a member is among those that take a block in the next step."""
        return (sequence.offset + self.step - 1) % self._block_size == 0

    def affordable(self, free: int, steps: int) -> int:
        """Give how many of the next `steps` steps, the decided one included, find their blocks; once settled."""
        if self._blocks_ahead(steps - 1) <= free:
            return steps
        low, high = 0, steps - 1
        while high - low > 1:
            middle = (low + high) // 2
            if self._blocks_ahead(middle) <= free:
                low = middle
            else:
                high = middle
        return low + 1

    def clear(self) -> None:
        """Forget every member."""
        self.finishing.clear()
        self._residues = [0] * self._block_size
        self.is_decided = False
        self.settled = self.step - 1
        self.num_sequences = self.context_tokens = self.recorded = 0

    def _blocks_ahead(self, steps: int) -> int:
        """Count the blocks of the `steps` steps after the decided one."""
        size = self._block_size
        cycles, rest = divmod(steps, size)
        blocks = cycles * self.num_sequences
        if rest:
            residues = self._residues
            low = -(self.step + rest) % size
            high = low + rest
            blocks += sum(residues[low:high]) if high <= size else sum(residues[low:]) + sum(residues[: high - size])
        return blocks
