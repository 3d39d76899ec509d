"""Which blocks of a sequence may be met again: prompts shared by hash, answers of earlier turns, one's own of before.

A preempted sequence finds its own blocks again as far as they were not evicted: those with a hash like anybody, the
others as a run of the free queue that is kept for it.
"""

from __future__ import annotations

from reference.engine.block_pool import Block, BlockPool
from reference.engine.sequence import Sequence


class PrefixCache:
    """Finds, holds, registers and frees the blocks of sequences in a pool. Knows hashes, not queues."""

    __slots__ = ("_block_size", "_pool", "is_on")

    def __init__(self, pool: BlockPool, block_size: int, is_on: bool) -> None:
        self.is_on = is_on
        self._pool = pool
        self._block_size = block_size

    def find(self, sequence: Sequence) -> tuple[list[Block], int]:
        """Find the blocks of a waiting sequence that are cached: those with a hash, and how many in all.

        The last token is always computed, so a block that would cover it does not count.
        """
        limit = (sequence.prefill_target - 1) // self._block_size
        hits = self._pool.match(sequence.block_hashes, min(limit, sequence.input_tokens // self._block_size))
        survivors = sequence.survivors
        if survivors is None or len(hits) < self._hashed_before(sequence):
            return hits, len(hits)
        return hits, len(hits) + survivors.count

    def hold(self, sequence: Sequence, hits: list[Block]) -> None:
        """Take what was found into use; what else was kept for the sequence is anybody's now."""
        if hits:
            self._pool.hold(hits)
            sequence.blocks = hits
        survivors = sequence.survivors
        if survivors is None:
            return
        if len(hits) < self._hashed_before(sequence):
            survivors.is_kept = False
        else:
            self._pool.reclaim(survivors)
        sequence.survivors = None

    def abandon(self, sequence: Sequence) -> None:
        """Forget that something was kept for a sequence that will not come back."""
        if sequence.survivors is not None:
            sequence.survivors.is_kept = False
            sequence.survivors = None

    def register(self, sequence: Sequence, computed: int) -> None:
        """Make the full blocks of the prompt findable, up to `computed` tokens."""
        blocks = sequence.blocks
        if blocks is None:
            blocks = sequence.blocks = []
        self._register(sequence, min(computed, sequence.input_tokens), blocks)

    def give_back(self, sequence: Sequence, computed: int, held: int, keep: bool) -> None:
        """Free the `held` blocks of a sequence with `computed` tokens; `keep` them for it if it will come back."""
        blocks = sequence.blocks
        if blocks is None:
            blocks = []
        elif not keep and len(blocks) >= sequence.input_tokens // self._block_size:
            self._register(sequence, computed, blocks)
        anonymous = held - len(blocks)
        if keep and self.is_on and len(blocks) >= self._hashed_before(sequence):
            last = 1 if anonymous and computed % self._block_size else 0
            self._pool.give_back(None, last)
            if anonymous > last:
                sequence.survivors = self._pool.give_back_kept(anonymous - last)
        else:
            self._pool.give_back(None, anonymous)
        self._pool.give_back(blocks, 0)
        sequence.blocks = None

    def _register(self, sequence: Sequence, computed: int, blocks: list[Block]) -> None:
        hashes = sequence.block_hashes
        for index in range(len(blocks), min(computed // self._block_size, len(hashes))):
            block = self._pool.register(hashes[index])
            if block is None:
                return
            blocks.append(block)

    def _hashed_before(self, sequence: Sequence) -> int:
        """Blocks with a hash that stood before those kept of a preempted sequence."""
        return min(len(sequence.block_hashes), sequence.input_tokens // self._block_size)
