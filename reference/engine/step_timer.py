"""How long the step takes that a scheduler has decided, in ticks (see `step_cost`)."""

from __future__ import annotations

from reference.engine.scheduler import Scheduler
from reference.engine.sequence import DECODING
from reference.engine.step_cost import TICKS_PER_SECOND, StepCost


class StepTimer:
    """Step times in ticks, for a replica that may be slower than it should by a factor."""

    __slots__ = ("_cost", "_factor", "fixed", "skew", "slope")

    def __init__(self, cost: StepCost) -> None:
        self._cost = cost
        self.skew = cost.context_skew
        self.set_factor(1.0)

    def set_factor(self, factor: float) -> None:
        """Have every step take `factor` times as long as its cost says."""
        self._factor = factor
        self.fixed: list[int] = []
        """Ticks of a decode step by batch size, context apart, as far as was asked for with `decode`."""
        self.slope = round(self._cost.per_context_token * factor * TICKS_PER_SECOND)
        """Ticks per token of context."""

    def decode(self, num_sequences: int, context_tokens: int) -> int:
        """Give the time of a step that only decodes."""
        fixed = self.fixed
        while num_sequences >= len(fixed):
            seconds, _ = self._cost.decode_affine(len(fixed))
            fixed.append(max(1, round(seconds * self._factor * TICKS_PER_SECOND)))
        return fixed[num_sequences] + self.slope * context_tokens

    def mixed(
        self, num_sequences: int, num_tokens: int, context_tokens: int, prefill_tokens: int, prefill_pairs: float
    ) -> int:
        """Give the time of any step; the arguments are those of `StepCost.seconds`."""
        seconds = self._cost.seconds(num_sequences, num_tokens, context_tokens, prefill_tokens, prefill_pairs)
        return max(1, round(seconds * self._factor * TICKS_PER_SECOND))

    def step(self, scheduler: Scheduler) -> int:
        """Give the time of the step as scheduled."""
        if scheduler.takes_over and scheduler.prefills:
            return self._step_with_handed_over(scheduler)
        batch = scheduler.batch
        num = batch.num_sequences
        context = self.skewed(scheduler) if self.skew else batch.context_tokens
        if not scheduler.prefills:
            return self.decode(num, context)
        tokens = 0
        pairs = 0.0
        for sequence, chunk in scheduler.prefills:
            tokens += chunk
            pairs += chunk * (sequence.computed + 0.5 * chunk)
        return self.mixed(num + len(scheduler.prefills), num + tokens, context, tokens, pairs)

    def step_after(self, scheduler: Scheduler, steps: int, prompt_tokens: int) -> int:
        """Give the time of the step after `steps` decodes, if a prompt of so many tokens is all that is new in it."""
        batch = scheduler.batch
        num = batch.num_sequences
        context = (self.skewed(scheduler) if self.skew else batch.context_tokens) + num * steps
        return self.mixed(num + 1, num + prompt_tokens, context, prompt_tokens, 0.5 * prompt_tokens * prompt_tokens)

    def skewed(self, scheduler: Scheduler, joining: int = 0, joining_tokens: int = 0, longest: int = 0) -> int:
        """Give the batch's context as attention feels it, when the longest sequence holds up the others.

        `joining` sequences of `joining_tokens` together, the longest of `longest`, decode with it for the first time.
        """
        batch = scheduler.batch
        for sequence in scheduler.running:
            if sequence.state is DECODING:
                longest = max(longest, sequence.offset + batch.step)
        context = batch.context_tokens + joining_tokens
        return context + round(self.skew * (longest * (batch.num_sequences + joining) - context))

    def _step_with_handed_over(self, scheduler: Scheduler) -> int:
        """Time a step in which sequences with KV from elsewhere may begin: they decode in it like any other."""
        joining = joining_tokens = longest = tokens = num_prompts = 0
        pairs = 0.0
        for sequence, chunk in scheduler.prefills:
            if sequence.is_handed_over:
                joining += 1
                joining_tokens += sequence.prefill_target
                longest = max(longest, sequence.prefill_target)
            else:
                num_prompts += 1
                tokens += chunk
                pairs += chunk * (sequence.computed + 0.5 * chunk)
        num = scheduler.batch.num_sequences + joining
        context = scheduler.batch.context_tokens + joining_tokens
        if self.skew:
            context = self.skewed(scheduler, joining, joining_tokens, longest)
        if not tokens:
            return self.decode(num, context)
        return self.mixed(num + num_prompts, num + tokens, context, tokens, pairs)
