"""The time of one replica: plans begin, are looked into, leapt over, cut and completed; and what they bring is noted.

The inside of `engine`, which says what may be asked of a replica. All times here are ticks (see `step_cost`).
"""

from __future__ import annotations

from typing import NamedTuple

from reference.engine.gaps import GapHistogram
from reference.engine.plan import SECONDS_PER_TICK, Plan
from reference.engine.scheduler import Scheduler
from reference.engine.sequence import (
    ENDED,
    FINISHED,
    FIRST_TOKEN,
    RESUMED,
    Event,
    Sequence,
    from_fields,
)
from reference.engine.settings import EngineSettings
from reference.engine.step_cost import StepCost
from reference.engine.step_timer import StepTimer


class Span(NamedTuple):
    """Steps of the same batch that followed each other. Seconds."""

    begin: float
    end: float
    num_steps: int
    num_decoding: int
    prefill_tokens: int


class Timeline:
    """What a replica does now and next. Between two calls it is idle, or it holds a plan that has begun."""

    __slots__ = (
        "_due",
        "_events",
        "_foreseen",
        "_is_simulated",
        "_last_end",
        "_leaving",
        "_live",
        "_plan",
        "_scheduler",
        "_stalled_until",
        "_timer",
        "gaps",
        "settings",
        "spans",
    )

    def __init__(self, settings: EngineSettings, cost: StepCost) -> None:
        self.settings = settings
        self._timer = StepTimer(cost)
        self._plan = Plan()
        self._scheduler = Scheduler(settings)
        self.gaps = GapHistogram()
        """Inter-token latency of all sequences, pooled."""
        self.spans: list[Span] | None = None
        """Set to a list, it is given every step, leapt ones together."""
        self._live: dict[str | int, Sequence] = {}
        self._events: list[Event] = []
        self._leaving: list[Sequence] = []
        self._last_end = 0
        """Tick at which the step before the plan's first ended: gaps count from there."""
        self._due: int | None = None
        """Tick at which an idle engine looks at its queue again."""
        self._stalled_until = 0
        self._foreseen = 0
        """Ticks of the step that follows the plan, when it is known and nothing is visible before its end; else 0."""
        self._is_simulated = False
        """Whether `wake_at` or `advance` was called: from then on the engine begins its steps itself."""

    def _catch_up(self, now: int) -> None:
        """Pass the time up to tick `now`: what ends by then ends, and what follows has begun."""
        if self._due is not None and self._due <= now and self._is_simulated:
            self._begin(self._due)
        plan = self._plan
        while plan.steps and plan.end <= now:
            self._complete()
            self._begin(plan.end)
        if plan.steps > 1 and now > plan.start:
            whole = plan.whole_steps(now - plan.start)
            if whole:
                self._leap(whole)

    def _let_in(self, now: int, at: int) -> None:
        """Let a newcomer into the step that begins at tick `at`, or else have the plan end with the running step.

        `now` is the last tick of that instant, `at` the first.
        """
        plan = self._plan
        if plan.steps > 1:
            whole = plan.whole_steps(now - plan.start)
            if whole and plan.start + plan.ticks_of(whole) >= at:
                self._leap(whole)
            elif whole + 1 < plan.steps:
                plan.keep(whole + 1)
                if plan.start < at:
                    self._foresee()
                    return
        if plan.start >= at and self._scheduler.admit():
            self._time_step()

    def _foresee(self) -> None:
        """Time the step that lets the newcomer in, if it is certain to compute the whole prompt and nothing else new.

        The plan was cut before anybody finishes, so the first thing to be seen is what that step brings.
        """
        steps = self._plan.steps
        target = self._scheduler.lets_in_after(steps)
        if target:
            self._foreseen = self._timer.step_after(self._scheduler, steps, target)

    def _begin(self, tick: int) -> None:
        """Decide what begins at `tick`: a step, several equal ones, or nothing."""
        self._due = None
        plan = self._plan
        plan.steps = 0
        foreseen, self._foreseen = self._foreseen, 0
        scheduler = self._scheduler
        if tick < self._stalled_until:
            if scheduler.running or scheduler.waiting:
                self._due = self._stalled_until
            return
        steps = scheduler.schedule()
        if scheduler.has_preempted:
            self._note_preempted()
        if foreseen:
            plan.begin(tick, 1, foreseen, 0)
        elif steps == 1:
            plan.start = tick
            self._time_step()
        elif steps:
            # what `Plan.begin` and `StepTimer.decode` do, without calling them: most of a replica's life passes here
            batch = scheduler.batch
            num = batch.num_sequences
            timer = self._timer
            context = timer.skewed(scheduler) if timer.skew else batch.context_tokens
            slope, fixed = timer.slope, timer.fixed
            if num < len(fixed):
                first = fixed[num] + slope * context
            else:
                first = timer.decode(num, context)
            growth = slope * num
            plan.start = tick
            plan.steps = steps
            plan.first = first
            plan.growth = growth
            plan.end = tick + steps * first + growth * (steps * (steps - 1) // 2)

    def _note_preempted(self) -> None:
        for sequence in self._scheduler.preempted:
            sequence.last_token_tick = self._last_end

    def _time_step(self) -> None:
        """Make the plan one step of the batch as scheduled."""
        plan = self._plan
        plan.begin(plan.start, 1, self._timer.step(self._scheduler), 0)

    def _leap(self, steps: int) -> None:
        """Take `steps` whole steps of the plan, fewer than all; the next one has begun then."""
        if self.spans is not None:
            self._note_span(steps)
        self._count_gaps(steps)
        self._plan.drop(steps)
        self._last_end = self._plan.start
        self._scheduler.leap(steps)

    def _count_gaps(self, steps: int) -> None:
        """Count the gaps that the first `steps` steps of the plan close."""
        weight = self._scheduler.batch.num_sequences
        if not weight:
            return
        plan = self._plan
        first = plan.first
        idle = plan.start - self._last_end
        if idle:
            self.gaps.add(idle + first, 0, 1, weight)
            first += plan.growth
            steps -= 1
        if steps:
            self.gaps.add(first, plan.growth, steps, weight)

    def _cut(self) -> None:
        """Let the plan end with the step that runs now. Only after catching up."""
        self._foreseen = 0
        if self._plan.steps > 1:
            self._plan.keep(1)

    def _complete(self) -> list[tuple[str, Sequence]]:
        """End the plan's last step and note its events."""
        plan = self._plan
        steps = plan.steps
        scheduler = self._scheduler
        weight = scheduler.batch.num_sequences
        if weight:
            if plan.start == self._last_end:
                self.gaps.add(plan.first, plan.growth, steps, weight)
            else:
                self._count_gaps(steps)
        if self.spans is not None:
            self._note_span(steps)
        end = self._last_end = plan.end
        outcomes = scheduler.complete(steps)
        for kind, sequence in outcomes:
            if kind is RESUMED:
                self.gaps.add(end - sequence.last_token_tick, 0, 1, 1)
            elif not sequence.is_leaving:
                generated = 1 if kind is FIRST_TOKEN else sequence.generated
                at = end * SECONDS_PER_TICK
                fields = (kind, sequence.request_id, at, generated, sequence.cached_tokens)
                self._events.append(from_fields(Event, fields))
                if kind is FINISHED:
                    del self._live[sequence.request_id]
        if self._leaving:
            self._let_go()
        return outcomes

    def _note_span(self, steps: int) -> None:
        """Note the first `steps` steps of the plan."""
        plan, scheduler = self._plan, self._scheduler
        assert self.spans is not None
        end = plan.start + plan.ticks_of(steps)
        tokens, num = 0, scheduler.batch.num_sequences
        for sequence, chunk in scheduler.prefills:
            if sequence.is_handed_over:
                num += 1
            else:
                tokens += chunk
        span = Span(plan.start * SECONDS_PER_TICK, end * SECONDS_PER_TICK, steps, num, tokens)
        self.spans.append(span)

    def _let_go(self) -> None:
        scheduler = self._scheduler
        scheduler.counters.aborted += len(self._leaving)
        for sequence in self._leaving:
            if sequence.state is ENDED:
                scheduler.counters.finished -= 1
            else:
                scheduler.leave(sequence)
        self._leaving.clear()
