"""Who computes what in the next step: waiting and running, the token budget, chunked prefill, seats and KV blocks.

Counts steps and refuses to know time. The order of a step, which is vLLM v1's: running sequences first, in order of
admission, each decoding one; then waiting ones, first come first served, until the budget, the blocks or the seats
run out; the head of the queue is never overtaken. A step that preempts (see `residents`) admits nobody.

Every decoding sequence advances in every step (the budget is at least `max_num_seqs`), and at most one prompt is partly
computed: the last admitted.
"""

from __future__ import annotations

from reference.engine.block_pool import Block
from reference.engine.residents import Residents
from reference.engine.sequence import (
    DECODING,
    ENDED,
    FINISHED,
    FIRST_TOKEN,
    PREFILLING,
    RESUMED,
    WAITING,
    Sequence,
)
from reference.engine.settings import EngineSettings


class Scheduler(Residents):
    """The queues and the KV blocks of one replica, advanced by steps.

    A step is `schedule` (decides it and takes its blocks), perhaps `admit` again while it has not begun, then
    `complete`. What `schedule` says can be repeated is completed at once, or in parts by `leap`.
    """

    __slots__ = (
        "_admissions",
        "_budget",
        "_budget_left",
        "_chunks",
        "_leaping",
        "_max_seqs",
        "_surely_fits",
        "prefills",
        "takes_over",
    )

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self.prefills: list[tuple[Sequence, int]] = []
        """The chunks of this step: (sequence, tokens)."""
        self.takes_over = False
        """Whether a sequence with KV from elsewhere was ever admitted: the timing of steps must look for them then."""
        self._chunks = settings.chunks
        self._leaping = settings.leaping
        self._max_seqs = settings.max_num_seqs
        self._budget = settings.max_num_batched_tokens
        self._surely_fits = min(settings.max_model_len, settings.num_blocks * settings.block_size)
        """Input and output tokens that are never refused."""
        if self._reserves:
            self._surely_fits = 0
        elif not self._chunks:
            self._surely_fits = min(self._surely_fits, settings.max_num_batched_tokens)
        self._budget_left = 0
        self._admissions = 0

    def why_not(self, sequence: Sequence) -> str | None:
        """Say why this sequence could never be served; None when it could."""
        settings = self.settings
        total = sequence.input_tokens + sequence.output_tokens
        if 0 < sequence.input_tokens < total <= self._surely_fits:
            return None
        if sequence.input_tokens < 1 or sequence.output_tokens < 1:
            return f"{sequence.input_tokens} input and {sequence.output_tokens} output tokens; both must be at least 1"
        if total > settings.max_model_len:
            return f"{total} tokens of input and output exceed max_model_len {settings.max_model_len}"
        if not self._chunks and sequence.input_tokens > self._budget and not sequence.is_handed_over:
            return f"{sequence.input_tokens} input tokens exceed a step's {self._budget}, and prompts are not chunked"
        blocks = self._blocks_to_completion(sequence)
        if blocks > settings.num_blocks:
            return f"{total} tokens need {blocks} KV blocks; the replica has {settings.num_blocks}"
        return None

    def enqueue(self, sequence: Sequence) -> bool:
        """Put a sequence at the end of the queue; False when none there can be admitted before a running one leaves."""
        sequence.state = WAITING
        waiting = self.waiting
        is_open = not waiting and len(self.running) < self._max_seqs
        waiting.append(sequence)
        return is_open

    def _may_shrink(self) -> bool:
        """Whether the head of the queue, which found no blocks, may need fewer once some that it hits are evicted.

        Then its first chunk starts earlier and, bounded by the budget, ends earlier. Decodes evict, so no leap is sure.
        """
        head = self.waiting[0]
        if not self._caches or head.prefill_target <= self._budget_left or len(self.running) >= self._max_seqs:
            return False
        return bool(head.block_hashes) or head.survivors is not None

    def lets_in_after(self, steps: int) -> int:
        """Give the prompt tokens of the one who waits, if the step after `steps` more decodes surely admits it whole.

        Surely: nothing of it is cached, it fits the budget, and there are blocks for it beside those that the members
        would hold if each had just begun a new one. 0 when that is not so, or cannot be told so cheaply.
        """
        waiting = self.waiting
        if len(waiting) != 1 or self._partial is not None or self.has_preempted or self._reserves:
            return 0
        sequence = waiting[0]
        target = sequence.prefill_target
        batch, size = self.batch, self._block_size
        num = batch.num_sequences
        if sequence.block_hashes or sequence.generated or sequence.is_handed_over or target > self._budget - num:
            return 0
        most = batch.context_tokens + num * (steps + size - 1) + target + size - 1
        return target if most <= (self.pool.free + batch.recorded) * size else 0

    def schedule(self) -> int:
        """Decide the next step and take its blocks; give the number of equal steps that begin with it, 0 for none."""
        if self.has_preempted:
            self.has_preempted = False
            self.preempted = []
        batch = self.batch
        num = batch.num_sequences
        size = self._block_size
        if num and batch.context_tokens + num * (size - 1) > (self.pool.free + batch.recorded) * size:
            self._make_room()
            num = batch.num_sequences
        batch.is_decided = True
        self._budget_left = self._budget - num
        if self._partial is not None:
            self._continue_prefill(self._partial)
        if self.waiting:
            self.admit()
        if self.prefills:
            return 1
        if not num:
            batch.is_decided = False
            return 0
        if self.has_preempted or not self._leaping or (self.waiting and self._may_shrink()):
            return 1
        finish_step, _, first = batch.finishing[0]
        if first.finish_step == finish_step and first.state is DECODING:
            steps = finish_step - batch.step
        else:
            steps = batch.steps_to_finish()
        if batch.context_tokens + num * (size + steps - 2) <= (self.pool.free + batch.recorded) * size:
            return steps
        self._settle()
        return batch.affordable(self.pool.free, steps)

    def admit(self) -> bool:
        """Take waiting sequences into the step being decided while budget, seats and blocks last; say if any was."""
        waiting, running = self.waiting, self.running
        before = len(running)
        if self.has_preempted:
            return False
        while waiting and self._partial is None and self._budget_left > 0 and len(running) < self._max_seqs:
            sequence = waiting[0]
            if (
                self._reserves
                or sequence.block_hashes
                or sequence.generated
                or sequence.survivors is not None
                or sequence.is_handed_over
            ):
                if not self._start(sequence):
                    break
            elif not self._start_plain(sequence):
                break
            waiting.popleft()
        return len(running) > before

    def complete(self, steps: int) -> list[tuple[str, Sequence]]:
        """End `steps` steps, no more than `schedule` said; tell first tokens, resumptions and finishes, in order."""
        batch = self.batch
        batch.is_decided = False
        tokens = batch.num_sequences * steps
        self.counters.generated_tokens += tokens
        outcomes: list[tuple[str, Sequence]] = []
        step = batch.step = batch.step + steps
        batch.context_tokens += tokens
        finishing = batch.finishing
        if finishing and finishing[0][0] <= step:
            for sequence in batch.take_finished():
                self._release(sequence)
                sequence.generated = sequence.output_tokens
                sequence.state = ENDED
                outcomes.append((FINISHED, sequence))
                self.counters.finished += 1
        prefills = self.prefills
        if prefills:
            self.prefills = []
            for sequence, chunk in prefills:
                self._complete_prefill(sequence, chunk, outcomes)
        return outcomes

    def leap(self, steps: int) -> None:
        """Take `steps` whole steps, fewer than `schedule` said, leaving the next one decided as single steps would."""
        batch = self.batch
        tokens = batch.num_sequences * steps
        self.counters.generated_tokens += tokens
        batch.step += steps
        batch.context_tokens += tokens

    def lose_everything(self) -> list[Sequence]:
        """Forget all sequences and blocks, as a crash does; give back who was lost, running ones first."""
        self.prefills = []
        return super().lose_everything()

    # Prompts

    def _continue_prefill(self, sequence: Sequence) -> None:
        chunk = self._chunk(sequence, sequence.computed)
        if not chunk:
            return
        size = self._block_size
        blocks = -(-(sequence.computed + chunk) // size) - -(-sequence.computed // size)
        if not self._has_free(blocks):
            self._preempt(sequence)
            return
        self._compute(sequence, chunk, blocks)

    def _chunk(self, sequence: Sequence, computed: int) -> int:
        """How many tokens of a prompt this step takes; 0 when it must wait for another step.

        What a preempted sequence recomputes may have outgrown the budget, so that is always chunked.
        """
        remaining = sequence.prefill_target - computed
        left = self._budget_left
        if remaining <= left:
            return remaining
        if not self._chunks and not sequence.generated:
            return 0
        if self._rules.chunks_are_whole_blocks:
            return max(0, (computed + left) // self._block_size * self._block_size - computed)
        return left

    def _start_plain(self, sequence: Sequence) -> bool:
        """Do what `_start` does for a sequence of which nothing can be cached, under rules that do not reserve."""
        target = chunk = sequence.prefill_target
        if target > self._budget_left:
            chunk = self._chunk(sequence, 0)
            if not chunk:
                return False
        size = self._block_size
        blocks = (chunk + size - 1) // size
        if not self._has_free(blocks):
            return False
        self.pool.take(blocks)
        self._admissions += 1
        sequence.admission = self._admissions
        sequence.state = PREFILLING
        self.running[sequence] = None
        if self._caches:
            self.counters.queried_tokens += target
        self._budget_left -= chunk
        self.prefills.append((sequence, chunk))
        if chunk < target:
            self._partial = sequence
        return True

    def _start(self, sequence: Sequence) -> bool:
        """Admit the head of the queue into this step if its blocks are there."""
        hits: list[Block] = []
        num_cached = 0
        """Blocks that need not be computed: hits, and what was kept of a preempted sequence."""
        idle = 0
        if self._caches and (sequence.block_hashes or sequence.survivors is not None):
            self._settle()
            hits, num_cached = self._prefix.find(sequence)
            idle = num_cached - sum(1 for block in hits if block.refs)
        size = self._block_size
        cached = num_cached * size
        if sequence.is_handed_over:
            cached, chunk = sequence.prefill_target - 1, 1
            self.takes_over = True
        else:
            chunk = self._chunk(sequence, cached)
        if not chunk:
            return False
        blocks = (cached + chunk + size - 1) // size - num_cached
        if self._reserves:
            reserved = self._blocks_to_completion(sequence)
            if reserved - num_cached + idle + self._owed > self.pool.free:
                return False
            sequence.reserved = reserved
            self._owed += reserved - num_cached
        elif not self._has_free(blocks + idle):
            return False
        self._prefix.hold(sequence, hits)
        self._seat(sequence, cached)
        self._compute(sequence, chunk, blocks)
        return True

    def _seat(self, sequence: Sequence, cached: int) -> None:
        self._admissions += 1
        sequence.admission = self._admissions
        sequence.state = PREFILLING
        sequence.computed = cached
        self.running[sequence] = None
        if self._caches and not sequence.is_handed_over:
            counters = self.counters
            counters.queried_tokens += sequence.prefill_target
            counters.cached_tokens += cached
            if not sequence.generated:
                sequence.cached_tokens = cached

    def _compute(self, sequence: Sequence, chunk: int, blocks: int) -> None:
        """Put a chunk into this step and take its blocks."""
        self._take(blocks)
        self._budget_left -= chunk
        self.prefills.append((sequence, chunk))
        computed = sequence.computed + chunk
        self._partial = sequence if computed < sequence.prefill_target else None
        if sequence.block_hashes and self._caches and self._rules.shares_while_prefilling:
            self._prefix.register(sequence, computed)

    def _complete_prefill(self, sequence: Sequence, chunk: int, outcomes: list[tuple[str, Sequence]]) -> None:
        computed = sequence.computed = sequence.computed + chunk
        counters = self.counters
        if sequence.is_handed_over:
            sequence.is_handed_over = False
        else:
            counters.prefilled_tokens += chunk
        if computed < sequence.prefill_target:
            return
        if sequence.block_hashes and self._caches and not self._rules.shares_while_prefilling:
            self._prefix.register(sequence, computed)
        counters.generated_tokens += 1
        generated = sequence.generated = sequence.generated + 1
        outcomes.append((FIRST_TOKEN if generated == 1 else RESUMED, sequence))
        if generated < sequence.output_tokens:
            self.batch.join(sequence)
        else:
            if sequence.keeps_kv and not sequence.is_leaving:
                self._keep(sequence)
            else:
                self._release(sequence)
            sequence.state = ENDED
            counters.finished += 1
            outcomes.append((FINISHED, sequence))

    def _blocks_to_completion(self, sequence: Sequence) -> int:
        answer = sequence.output_tokens
        if self._reserves and sequence.max_output_tokens is not None:
            answer = max(answer, sequence.max_output_tokens)
            answer = min(answer, max(sequence.output_tokens, self.settings.max_model_len - sequence.input_tokens))
        return -(-(sequence.input_tokens + answer - 1) // self._block_size)
