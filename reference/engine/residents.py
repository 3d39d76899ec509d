"""Who is in a replica, and the KV blocks they hold: taken as they decode, given back, kept, or lost to a preemption.

The inside of `scheduler`, which decides who computes what. When blocks run out for a running sequence the last admitted
is preempted: it gives back its blocks, goes to the head of the queue and recomputes.
"""

from __future__ import annotations

from collections import deque

from reference.engine.block_pool import BlockPool
from reference.engine.counters import Counters
from reference.engine.decode_batch import DecodeBatch
from reference.engine.prefix import PrefixCache
from reference.engine.sequence import DECODING, ENDED, WAITING, Sequence
from reference.engine.settings import EngineSettings


class Residents:
    """The sequences of one replica, waiting, running and kept, and its blocks."""

    __slots__ = (
        "_block_size",
        "_caches",
        "_owed",
        "_partial",
        "_prefix",
        "_reserves",
        "_rules",
        "batch",
        "counters",
        "has_preempted",
        "kept",
        "pool",
        "preempted",
        "running",
        "settings",
        "waiting",
    )

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.counters = Counters()
        self.pool = BlockPool(settings.num_blocks)
        self.batch = DecodeBatch(settings.block_size)
        self.waiting: deque[Sequence] = deque()
        self.running: dict[Sequence, None] = {}
        """In order of admission: the last one is the first to be preempted."""
        self.preempted: list[Sequence] = []
        """Who was decoding until this step preempted it."""
        self.has_preempted = False
        self.kept: dict[str | int, Sequence] = {}
        """Ended here, by id: their blocks stay taken until the KV has been fetched."""
        self._prefix = PrefixCache(self.pool, settings.block_size, settings.prefix_caching)
        self._rules = settings.rule_set
        self._caches = settings.prefix_caching
        self._reserves = self._rules.reserves_to_completion
        self._block_size = settings.block_size
        self._partial: Sequence | None = None
        """The one running sequence whose prompt is only partly computed; always the last admitted."""
        self._owed = 0
        """Blocks that running sequences may still ask for, under rules that reserve."""

    @property
    def kv_usage(self) -> float:
        """The share of blocks that sequences hold, 0 to 1."""
        return self.kv_usage_after(0)

    def kv_usage_after(self, steps: int) -> float:
        """Give the share of blocks that sequences hold once so many of the steps decided have passed."""
        batch, pool = self.batch, self.pool
        return (pool.total - pool.free - batch.recorded + batch.held_after(steps)) / pool.total

    def leave(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is. Not while a step that computes it is running."""
        if sequence.state is WAITING:
            self.waiting.remove(sequence)
            self._prefix.abandon(sequence)
        else:
            self._release(sequence)
        sequence.state = ENDED

    def lose_everything(self) -> list[Sequence]:
        """Forget all sequences and blocks, as a crash does; give back who was lost, running ones first."""
        lost = [*self.running, *self.waiting]
        for sequence in lost:
            sequence.state = ENDED
            sequence.blocks = sequence.survivors = None
        self.running.clear()
        self.waiting.clear()
        self.kept.clear()
        self.pool.forget()
        self.batch.clear()
        self._partial = None
        self._owed = 0
        return lost

    # Blocks of decoding sequences

    def _settle(self) -> None:
        self._take(self.batch.settle())

    def _take(self, blocks: int) -> None:
        if blocks:
            self.pool.take(blocks)
            if self._reserves:
                self._owed -= blocks

    def _make_room(self) -> None:
        """Take the blocks that the decoding sequences need in this step, preempting from the end until there are."""
        self._settle()
        batch = self.batch
        needed = batch.blocks_now()
        while needed > self.pool.free:
            victim = next(reversed(self.running))
            if victim.state is DECODING and batch.needs_block(victim):
                needed -= 1
            self._preempt(victim)
        if not batch.num_sequences:
            # beside KV that is kept even the last one may have to go; it may come back before another step is taken
            batch.clear()
        self._take(needed)
        batch.recorded += needed
        batch.settled = batch.step

    def _preempt(self, victim: Sequence) -> None:
        if victim.state is DECODING:
            victim.prefill_target = victim.offset + self.batch.step
            victim.generated = victim.prefill_target - victim.input_tokens
            self.preempted.append(victim)
        self._release(victim, keep=True)
        victim.state = WAITING
        victim.computed = 0
        self.waiting.appendleft(victim)
        self.counters.preemptions += 1
        self.has_preempted = True

    def _has_free(self, blocks: int) -> bool:
        """Whether so many blocks are free beside those of this step's decodes."""
        batch = self.batch
        size = self._block_size
        room = self.pool.free + batch.recorded - blocks
        if batch.context_tokens + batch.num_sequences * (size - 1) <= room * size:
            return True
        self._settle()
        return blocks <= self.pool.free

    # Leaving

    def _keep(self, sequence: Sequence) -> None:
        """Take a sequence whose prompt is computed off its seat, with its blocks still taken."""
        del self.running[sequence]
        if self._reserves:
            self._owed -= sequence.reserved - self._blocks_of(sequence.computed)
        self.kept[sequence.request_id] = sequence

    def let_go(self, sequence: Sequence) -> None:
        """Free the blocks of one that was kept."""
        del self.kept[sequence.request_id]
        self._settle()
        self._prefix.give_back(sequence, sequence.computed, self._blocks_of(sequence.computed), False)

    def _blocks_of(self, tokens: int) -> int:
        return (tokens + self._block_size - 1) // self._block_size

    def _release(self, sequence: Sequence, keep: bool = False) -> None:
        """Take a running sequence off its seat and free its blocks; `keep` those without a hash as a run of its own."""
        del self.running[sequence]
        growth = 0
        if sequence.state is DECODING:
            computed, held, growth = self.batch.part(sequence)
        else:
            computed = sequence.computed
            held = (computed + self._block_size - 1) // self._block_size
            if self._partial is sequence:
                self._partial = None
        if self._reserves:
            self._owed -= sequence.reserved - held + growth
        if sequence.blocks is None and not (keep and self._caches):
            self.pool.swap(growth, held)
            return
        self.pool.take(growth)
        self._settle()
        self._prefix.give_back(sequence, computed, held, keep)
