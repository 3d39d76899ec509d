"""Who computes what in the next step: waiting and running, the token budget, chunked prefill, KV blocks, preemption.

Counts steps and refuses to know time. The order of a step, which is vLLM v1's: running sequences first, in order of
admission, each decoding one; then waiting ones, first come first served, until the budget, the blocks or the seats
run out; the head of the queue is never overtaken. When blocks run out for a running sequence the last admitted is
preempted: it gives back its blocks, goes to the head of the queue and recomputes; a step that preempts admits nobody.

Two facts keep a step cheap. Every decoding sequence advances in every step (the budget is at least `max_num_seqs`), so
a batch that only decodes is a count, a context sum and a heap of the steps at which its members finish. And a sequence
needs its next KV block each `block_size` steps, so a histogram over residues says how many blocks any step takes.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from reference.engine.block_pool import Block, BlockPool
from reference.engine.sequence import DECODING, ENDED, PREFILLING, WAITING, Sequence
from reference.engine.settings import EngineSettings


class Counters:
    """What a replica has done since it was made; crashes do not reset it."""

    __slots__ = (
        "aborted",
        "cached_tokens",
        "finished",
        "generated_tokens",
        "lost",
        "preemptions",
        "prefilled_tokens",
        "queried_tokens",
        "rejected",
        "steps",
        "submitted",
    )

    def __init__(self) -> None:
        self.submitted = 0
        """Accepted sequences: finished + aborted + lost + waiting + running."""
        self.rejected = 0
        self.finished = 0
        self.aborted = 0
        self.lost = 0
        """By crashes."""
        self.steps = 0
        self.generated_tokens = 0
        self.prefilled_tokens = 0
        """Prompt tokens computed, those recomputed after a preemption included."""
        self.queried_tokens = 0
        """Tokens looked up in the prefix cache, at admission."""
        self.cached_tokens = 0
        """Tokens found there."""
        self.preemptions = 0

    def as_dict(self) -> dict[str, int]:
        """Give all counters by name."""
        return {name: getattr(self, name) for name in self.__slots__}


class Scheduler:
    """The queues and the KV blocks of one replica, advanced by steps.

    A step is `schedule` (decides it and takes its blocks), perhaps `admit` again while it has not begun, then
    `complete`; a batch that only decodes may `leap` over several whole steps before the one that `complete` ends.
    """

    __slots__ = (
        "_admissions",
        "_block_size",
        "_budget",
        "_budget_left",
        "_caches",
        "_chunks",
        "_finishing",
        "_max_seqs",
        "_owed",
        "_partial",
        "_reserves",
        "_residues",
        "_rules",
        "context_tokens",
        "counters",
        "finished",
        "first_tokens",
        "has_preempted",
        "num_decoding",
        "pool",
        "preempted",
        "prefills",
        "resumed",
        "running",
        "settings",
        "step",
        "waiting",
    )

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.counters = Counters()
        self.pool = BlockPool(settings.num_blocks)
        self.waiting: deque[Sequence] = deque()
        self.running: dict[Sequence, None] = {}
        """In order of admission: the last one is the first to be preempted."""
        self.step = 0
        """Steps taken; the one being decided or running is number `step` + 1."""
        self.num_decoding = 0
        self.context_tokens = 0
        """Tokens that the decoding sequences attend to in the next step."""
        self.prefills: list[tuple[Sequence, int]] = []
        """The chunks of this step: (sequence, tokens)."""
        self.first_tokens: list[Sequence] = []
        """Whose first token the last completed step brought."""
        self.resumed: list[Sequence] = []
        """Who got a token in the last completed step for the first time since a preemption."""
        self.finished: list[Sequence] = []
        self.preempted: list[Sequence] = []
        """Who was decoding until this step preempted it."""
        self.has_preempted = False
        self._rules = settings.rule_set
        self._chunks = settings.chunks
        self._caches = settings.prefix_caching
        self._reserves = self._rules.reserves_to_completion
        self._max_seqs = settings.max_num_seqs
        self._budget = settings.max_num_batched_tokens
        self._block_size = settings.block_size
        self._residues = [0] * settings.block_size
        """How many decoding sequences need a block in the steps whose number is minus the index, modulo block size."""
        self._finishing: list[tuple[int, int, Sequence]] = []
        """Heap of (finishing step, admission, sequence); entries of sequences that left early are skipped when met."""
        self._partial: Sequence | None = None
        """The one running sequence whose prompt is only partly computed; always the last admitted."""
        self._budget_left = 0
        self._admissions = 0
        self._owed = 0
        """Blocks that running sequences may still ask for, under rules that reserve."""

    def why_not(self, sequence: Sequence) -> str | None:
        """Say why this sequence could never be served; None when it could."""
        settings = self.settings
        total = sequence.input_tokens + sequence.output_tokens
        if sequence.input_tokens < 1 or sequence.output_tokens < 1:
            return f"{sequence.input_tokens} input and {sequence.output_tokens} output tokens; both must be at least 1"
        if total > settings.max_model_len:
            return f"{total} tokens of input and output exceed max_model_len {settings.max_model_len}"
        if not self._chunks and sequence.input_tokens > self._budget:
            return f"{sequence.input_tokens} input tokens exceed a step's {self._budget}, and prompts are not chunked"
        blocks = self._blocks_to_completion(sequence)
        if blocks > settings.num_blocks:
            return f"{total} tokens need {blocks} KV blocks; the replica has {settings.num_blocks}"
        return None

    def enqueue(self, sequence: Sequence) -> None:
        """Put a sequence at the end of the queue."""
        sequence.state = WAITING
        self.waiting.append(sequence)

    @property
    def is_blocked(self) -> bool:
        """Whether nobody who comes to the end of the queue could be admitted before a running sequence leaves."""
        return bool(self.waiting) or len(self.running) >= self._max_seqs

    def schedule(self) -> bool:
        """Decide the next step and take its blocks; False when there is nothing to do."""
        self.prefills = []
        if self.has_preempted:
            self.has_preempted = False
            self.preempted = []
        self._budget_left = self._budget
        if self.num_decoding:
            self._schedule_decodes()
        if self._partial is not None:
            self._continue_prefill(self._partial)
        if self.waiting and not self.has_preempted:
            self.admit()
        return self.num_decoding > 0 or bool(self.prefills)

    def admit(self) -> bool:
        """Take waiting sequences into the step being decided while budget, seats and blocks last; say if any was."""
        waiting, running = self.waiting, self.running
        before = len(running)
        if self.has_preempted:
            return False
        while waiting and self._partial is None and self._budget_left > 0 and len(running) < self._max_seqs:
            if not self._start(waiting[0]):
                break
            waiting.popleft()
        return len(running) > before

    def complete(self) -> None:
        """End the step: count its tokens, find who got a first token and who finished, and let the finished go."""
        self.step += 1
        counters = self.counters
        counters.steps += 1
        batch = self.num_decoding
        counters.generated_tokens += batch
        self.context_tokens += batch
        self.first_tokens = []
        self.resumed = []
        self.finished = []
        finishing = self._finishing
        step = self.step
        while finishing and finishing[0][0] <= step:
            sequence = heappop(finishing)[2]
            if sequence.finish_step == step and sequence.state is DECODING:
                self._finish(sequence)
        for sequence, chunk in self.prefills:
            self._complete_prefill(sequence, chunk)
        self.prefills = []

    def steps_ahead(self) -> int:
        """Count the steps, this one included, that can be taken before the batch changes; at least 1."""
        if self.prefills or self.has_preempted or not self.num_decoding:
            return 1
        finishing = self._finishing
        while True:
            finish_step, _, sequence = finishing[0]
            if sequence.finish_step == finish_step and sequence.state is DECODING:
                break
            heappop(finishing)
        steps = finish_step - self.step
        free = self.pool.free
        size = self._block_size
        if (steps // size + 1) * self.num_decoding <= free or self._blocks_ahead(steps - 1) <= free:
            return steps
        return self._affordable(free, steps)

    def leap(self, steps: int) -> None:
        """Take `steps` whole steps at once, leaving the one after them decided, as single steps would."""
        self.step += steps
        batch = self.num_decoding
        self.context_tokens += batch * steps
        counters = self.counters
        counters.steps += steps
        counters.generated_tokens += batch * steps
        blocks = self._blocks_between(self.step - steps, steps)
        if blocks:
            self.pool.take(blocks)
            if self._reserves:
                self._owed -= blocks

    def leave(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is. Not while a step that computes it is running."""
        if sequence.state is WAITING:
            self.waiting.remove(sequence)
            if sequence.survivors is not None:
                sequence.survivors.is_kept = False
                sequence.survivors = None
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
        self.pool.forget()
        self.prefills = []
        self._finishing.clear()
        self._residues = [0] * self._block_size
        self._partial = None
        self.num_decoding = self.context_tokens = self._owed = 0
        return lost

    # One step: decoding sequences

    def _schedule_decodes(self) -> None:
        self._budget_left -= self.num_decoding
        needed = self._residues[-self.step % self._block_size]
        if not needed:
            return
        while needed > self.pool.free:
            needed -= self._preempt_last()
        self.pool.take(needed)
        if self._reserves:
            self._owed -= needed

    def _preempt_last(self) -> int:
        """Preempt the last admitted; 1 when it needed a block for this step, else 0."""
        victim = next(reversed(self.running))
        needed = 0
        if victim.state is DECODING:
            needed = int((victim.offset + self.step - 1) % self._block_size == 0)
            self._budget_left += 1
        self._preempt(victim)
        return needed

    def _preempt(self, victim: Sequence) -> None:
        if victim.state is DECODING:
            length = victim.offset + self.step
            victim.generated = length - victim.input_tokens
            victim.prefill_target = length
            self.preempted.append(victim)
        self._release(victim, keep=True)
        victim.state = WAITING
        victim.computed = 0
        self.waiting.appendleft(victim)
        self.counters.preemptions += 1
        self.has_preempted = True

    def _blocks_between(self, step: int, steps: int) -> int:
        """Count the blocks that the batch takes in the `steps` steps after the one that follows `step`."""
        size = self._block_size
        cycles, rest = divmod(steps, size)
        blocks = cycles * self.num_decoding
        if rest:
            residues = self._residues
            low = -(step + rest) % size
            high = low + rest
            blocks += sum(residues[low:high]) if high <= size else sum(residues[low:]) + sum(residues[: high - size])
        return blocks

    def _blocks_ahead(self, steps: int) -> int:
        return self._blocks_between(self.step, steps)

    def _affordable(self, free: int, steps: int) -> int:
        """The most steps, this one included, whose blocks are there; fewer than `steps`."""
        low, high = 0, steps - 1
        while high - low > 1:
            middle = (low + high) // 2
            if self._blocks_ahead(middle) <= free:
                low = middle
            else:
                high = middle
        return low + 1

    # One step: prompts

    def _continue_prefill(self, sequence: Sequence) -> None:
        chunk = self._chunk(sequence.computed, sequence.prefill_target)
        if not chunk:
            return
        size = self._block_size
        blocks = -(-(sequence.computed + chunk) // size) - -(-sequence.computed // size)
        if blocks > self.pool.free:
            self._preempt(sequence)
            return
        self._compute(sequence, chunk, blocks)

    def _chunk(self, computed: int, target: int) -> int:
        """How many tokens of a prompt this step takes; 0 when it must wait for another step."""
        remaining = target - computed
        left = self._budget_left
        if remaining <= left:
            return remaining
        if not self._chunks:
            return 0
        if self._rules.chunks_are_whole_blocks:
            return max(0, (computed + left) // self._block_size * self._block_size - computed)
        return left

    def _start(self, sequence: Sequence) -> bool:
        """Admit the head of the queue into this step if its blocks are there."""
        size = self._block_size
        hits: list[Block] = []
        kept = 0
        if self._caches:
            limit = (sequence.prefill_target - 1) // size
            hashes = sequence.block_hashes
            if hashes:
                hits = self.pool.match(hashes, limit)
            survivors = sequence.survivors
            if survivors is not None and len(hits) + survivors.count <= limit:
                kept = survivors.count if len(hits) == min(limit, self._hashed_before(sequence)) else 0
        cached = (len(hits) + kept) * size
        chunk = self._chunk(cached, sequence.prefill_target)
        if not chunk:
            return False
        blocks = -(-(cached + chunk) // size) - len(hits) - kept
        idle = kept + sum(1 for block in hits if not block.refs)
        pool = self.pool
        if self._reserves:
            sequence.reserved = self._blocks_to_completion(sequence)
            owed = sequence.reserved - len(hits) - kept
            if owed + idle + self._owed > pool.free:
                return False
            self._owed += owed
        elif blocks + idle > pool.free:
            return False
        if hits:
            pool.hold(hits)
            sequence.blocks = hits
        if sequence.survivors is not None:
            if kept:
                pool.reclaim(sequence.survivors)
            else:
                sequence.survivors.is_kept = False
            sequence.survivors = None
        self._seat(sequence, cached)
        self._compute(sequence, chunk, blocks)
        return True

    def _hashed_before(self, sequence: Sequence) -> int:
        """Blocks with a hash that stood before the kept run of a preempted sequence."""
        return min(len(sequence.block_hashes), sequence.input_tokens // self._block_size)

    def _seat(self, sequence: Sequence, cached: int) -> None:
        self._admissions += 1
        sequence.admission = self._admissions
        sequence.state = PREFILLING
        sequence.computed = cached
        self.running[sequence] = None
        if self._caches:
            counters = self.counters
            counters.queried_tokens += sequence.prefill_target
            counters.cached_tokens += cached
            if not sequence.generated:
                sequence.cached_tokens = cached

    def _compute(self, sequence: Sequence, chunk: int, blocks: int) -> None:
        """Put a chunk into this step and take its blocks."""
        if blocks:
            self.pool.take(blocks)
            if self._reserves:
                self._owed -= blocks
        self._budget_left -= chunk
        self.prefills.append((sequence, chunk))
        self._partial = sequence if sequence.computed + chunk < sequence.prefill_target else None
        if sequence.block_hashes and self._caches and self._rules.shares_while_prefilling:
            self._register(sequence, sequence.computed + chunk)

    def _register(self, sequence: Sequence, computed: int) -> None:
        """Make the full blocks of the prompt findable, up to `computed` tokens."""
        hashes = sequence.block_hashes
        end = min(computed, sequence.input_tokens) // self._block_size
        blocks = sequence.blocks
        if blocks is None:
            blocks = sequence.blocks = []
        register = self.pool.register
        for index in range(len(blocks), min(end, len(hashes))):
            block = register(hashes[index])
            if block is None:
                return
            blocks.append(block)

    def _complete_prefill(self, sequence: Sequence, chunk: int) -> None:
        computed = sequence.computed = sequence.computed + chunk
        counters = self.counters
        counters.prefilled_tokens += chunk
        if computed < sequence.prefill_target:
            return
        if sequence.block_hashes and self._caches and not self._rules.shares_while_prefilling:
            self._register(sequence, computed)
        counters.generated_tokens += 1
        generated = sequence.generated = sequence.generated + 1
        if generated == 1:
            self.first_tokens.append(sequence)
        else:
            self.resumed.append(sequence)
        left = sequence.output_tokens - generated
        offset = sequence.offset = sequence.input_tokens + generated - self.step
        if not left:
            self._finish(sequence)
            return
        sequence.state = DECODING
        sequence.finish_step = self.step + left
        self.num_decoding += 1
        self.context_tokens += offset + self.step
        self._residues[(offset - 1) % self._block_size] += 1
        heappush(self._finishing, (sequence.finish_step, sequence.admission, sequence))

    # Leaving

    def _finish(self, sequence: Sequence) -> None:
        self._release(sequence)
        sequence.generated = sequence.output_tokens
        sequence.state = ENDED
        self.finished.append(sequence)
        self.counters.finished += 1

    def _release(self, sequence: Sequence, keep: bool = False) -> None:
        """Take a running sequence off its seat and free its blocks; `keep` those without a hash as a run of its own."""
        size = self._block_size
        if sequence.state is DECODING:
            length = sequence.offset + self.step
            computed = length - 1
            self.num_decoding -= 1
            self.context_tokens -= length
            self._residues[(sequence.offset - 1) % size] -= 1
        else:
            computed = sequence.computed
        del self.running[sequence]
        if self._partial is sequence:
            self._partial = None
        held = -(-computed // size)
        if self._reserves:
            self._owed -= sequence.reserved - held
        blocks = sequence.blocks
        if blocks is None:
            if keep and self._caches:
                self._keep(sequence, computed, held)
            else:
                self.pool.give_back(None, held)
            return
        if not keep and len(sequence.block_hashes) > len(blocks):
            self._register_answer(sequence, computed, blocks)
        anonymous = held - len(blocks)
        if keep and self._caches and len(blocks) == self._hashed_before(sequence):
            self._keep(sequence, computed, anonymous)
        else:
            self.pool.give_back(None, anonymous)
        self.pool.give_back(blocks, 0)
        sequence.blocks = None

    def _register_answer(self, sequence: Sequence, computed: int, blocks: list[Block]) -> None:
        """Make the blocks of the answer findable for a later turn that contains it."""
        if len(blocks) < sequence.input_tokens // self._block_size:
            return
        hashes = sequence.block_hashes
        for index in range(len(blocks), min(computed // self._block_size, len(hashes))):
            block = self.pool.register(hashes[index])
            if block is None:
                return
            blocks.append(block)

    def _keep(self, sequence: Sequence, computed: int, anonymous: int) -> None:
        partial = 1 if computed % self._block_size and anonymous else 0
        self.pool.give_back(None, partial)
        if anonymous > partial:
            sequence.survivors = self.pool.give_back_kept(anonymous - partial)

    def _blocks_to_completion(self, sequence: Sequence) -> int:
        answer = sequence.output_tokens
        if self._reserves and sequence.max_output_tokens is not None:
            answer = max(answer, sequence.max_output_tokens)
            answer = min(answer, max(sequence.output_tokens, self.settings.max_model_len - sequence.input_tokens))
        return -(-(sequence.input_tokens + answer - 1) // self._block_size)
