"""One replica in time: steps follow each other, sequences come and go, and runs of equal steps are leapt over.

Two ways of driving the same object; use one of them:

- a worker on the wall clock: `submit`, then `begin_step(now)`, wait `Step.seconds`, `end_step(now)`, and again;
- a simulator: `submit`, `abort`, ...; after each, ask `wake_at()`; pass time until then, `advance(now)` gives events.

Calls come in order of `now`, in seconds since any zero (times are exact up to 2**17 s, 36 hours). At one instant the
order is: the step that ends there ends, its events happen, the next step begins; whoever is submitted at that very
instant still joins it. A sequence aborted while its step runs leaves at the end of the step.

Inside, time is counted in whole ticks (see `step_cost`). The k decode steps of a batch of B sequences with S tokens of
context take k·(fixed + d·S) + d·B·k(k−1)/2 ticks, so passing them costs as much as passing one.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from reference.engine.counters import Counters
from reference.engine.plan import EXACT_TICKS, SECONDS_PER_TICK, tick_at, tick_from
from reference.engine.sequence import (
    DECODING,
    ENDED,
    FINISHED,
    NEW,
    WAITING,
    Emission,
    EngineError,
    Event,
    Rejected,
    Sequence,
)
from reference.engine.step_cost import TICKS_PER_SECOND
from reference.engine.timeline import Timeline

_NEVER: Final = 2**62


class Step(NamedTuple):
    """A step that has begun."""

    seconds: float
    num_sequences: int
    num_tokens: int
    num_prompts: int
    """Of the sequences, those of which it computes prompt."""
    context_tokens: int
    """What the others, which decode, attend to together."""


class Engine(Timeline):
    """A replica's engine. Lives as long as the replica; `crash` empties it and it serves on.

    Between two calls it is idle, or it holds a plan: steps of the same batch, the first of which has begun and has its
    blocks. Time passes only inside calls. Gauges tell the time of the last `advance`.
    """

    __slots__ = ()

    # What a replica reports

    @property
    def num_running(self) -> int:
        """Sequences admitted and not ended."""
        return len(self._scheduler.running)

    @property
    def num_waiting(self) -> int:
        """Sequences not admitted, preempted ones included."""
        return len(self._scheduler.waiting)

    @property
    def kv_usage(self) -> float:
        """KV cache usage: the share of blocks held by sequences, 0 to 1; cached blocks nobody holds are free."""
        return self._scheduler.kv_usage

    def gauges(self, now: float) -> tuple[int, int, float]:
        """Give running, waiting and KV cache usage at `now`, as `advance(now)` and the properties would.

        Cheaper than those: a run of equal steps is looked into, not cut. Only when there is no event up to `now` that
        was not given.
        """
        tick = tick_at(now)
        plan, scheduler = self._plan, self._scheduler
        if (plan.steps and plan.end <= tick) or self._due is not None:
            self._is_simulated = True
            self._catch_up(tick)
        steps = plan.whole_steps(tick - plan.start) if plan.steps > 1 and tick > plan.start else 0
        return len(scheduler.running), len(scheduler.waiting), scheduler.kv_usage_after(steps)

    @property
    def counters(self) -> Counters:
        """Totals since the engine was made; the same object at every time."""
        counters = self._scheduler.counters
        counters.steps = self._scheduler.batch.step
        return counters

    def num_generated(self, request_id: str | int) -> int:
        """Tokens that a live sequence has received; 0 for an unknown one."""
        sequence = self._live.get(request_id)
        if sequence is None:
            return 0
        if sequence.state is DECODING:
            return sequence.offset + self._scheduler.batch.step - sequence.input_tokens
        return sequence.generated

    # What both ways of driving share

    def submit(self, sequence: Sequence, now: float) -> Rejected | None:
        """Put a sequence into the queue, or say why it can never be served.

        Raises:
            EngineError: the sequence was submitted before, or its id is in use here.
        """
        tick = int(now * TICKS_PER_SECOND)
        if tick >= EXACT_TICKS:
            tick = tick_at(now)
        plan = self._plan
        while plan.steps and plan.end <= tick:
            self._complete()
            self._begin(plan.end)
        if self._due is not None and self._due < tick and self._is_simulated:
            self._begin(self._due)
        live = self._live
        if sequence.state is not NEW or sequence.request_id in live:
            raise EngineError(f"{sequence!r} is already in an engine")
        scheduler = self._scheduler
        why = scheduler.why_not(sequence)
        if why is not None:
            scheduler.counters.rejected += 1
            return Rejected(why)
        scheduler.counters.submitted += 1
        live[sequence.request_id] = sequence
        self._foreseen = 0
        is_open = scheduler.enqueue(sequence)
        if not plan.steps:
            if self._due is None:
                self._due = tick_from(now)
        elif is_open and self._is_simulated:
            self._let_in(tick, tick_from(now))
        return None

    def abort(self, request_id: str | int, now: float) -> bool:
        """End a sequence without a further event, or release its KV; False when it is not here (any more)."""
        self._catch_up(tick_at(now))
        sequence = self._live.pop(request_id, None)
        if sequence is None:
            return self.release(request_id, now)
        self._cut()
        if self._plan.steps and sequence.state is not WAITING:
            sequence.is_leaving = True
            self._leaving.append(sequence)
        else:
            self._scheduler.leave(sequence)
            self._scheduler.counters.aborted += 1
        return True

    def release(self, request_id: str | int, now: float) -> bool:
        """Free the blocks of a sequence that ended and kept its KV; False when it has none here (any more)."""
        self._catch_up(tick_at(now))
        scheduler = self._scheduler
        sequence = scheduler.kept.get(request_id)
        if sequence is None:
            return False
        self._cut()
        scheduler.let_go(sequence)
        if not self._plan.steps and self._due is None and scheduler.waiting:
            self._due = tick_from(now)
        return True

    def slow(self, factor: float, now: float) -> None:
        """Make every step that begins from now on take `factor` times as long; 1 is full speed again.

        Raises:
            EngineError: the factor is not positive.
        """
        if not factor > 0:
            raise EngineError(f"slow: factor is {factor}; it must be above 0")
        self._catch_up(tick_at(now))
        self._cut()
        self._timer.set_factor(factor)

    def stall(self, until: float, now: float) -> None:
        """Begin no step before `until`; the one that runs now still ends."""
        self._catch_up(tick_at(now))
        self._cut()
        self._stalled_until = max(self._stalled_until, tick_from(until))

    def crash(self, now: float) -> list[str | int]:
        """Lose every sequence and every block at once; give back the ids of the lost, running ones first."""
        self._catch_up(tick_at(now))
        lost = [sequence.request_id for sequence in self._scheduler.lose_everything() if not sequence.is_leaving]
        self._scheduler.counters.lost += len(lost)
        self._scheduler.counters.aborted += len(self._leaving)
        self._live.clear()
        self._leaving.clear()
        self._plan.steps = 0
        self._due = None
        self._foreseen = 0
        self._stalled_until = 0
        return lost

    # Driven by a simulator

    def wake_at(self) -> float | None:
        """Give the time at which `advance` should be called next, no later than the next event; None: never."""
        if self._events:
            return self._events[0].at
        plan = self._plan
        if plan.steps:
            return (plan.end + self._foreseen) * SECONDS_PER_TICK
        self._is_simulated = True
        due = self._due
        if due is None:
            return None
        self._begin(due)
        if plan.steps:
            return plan.end * SECONDS_PER_TICK
        due = self._due
        return None if due is None else due * SECONDS_PER_TICK

    def advance(self, now: float) -> list[Event]:
        """Pass the time up to `now`, and give the events since the last call, in order of time."""
        self._is_simulated = True
        tick = int(now * TICKS_PER_SECOND)
        if tick >= EXACT_TICKS:
            tick = tick_at(now)
        plan = self._plan
        if plan.steps and plan.end == tick:
            self._complete()
            self._begin(tick)
        else:
            self._catch_up(tick)
        events = self._events
        if events:
            self._events = []
        return events

    # Driven by a worker

    def begin_step(self, now: float) -> Step | None:
        """Begin the next step; None when there is nothing to do, or the engine is stalled.

        Raises:
            EngineError: a step is running, or a simulator drives this engine.
        """
        plan = self._plan
        if plan.steps or self._is_simulated:
            why = "this engine is driven by advance()" if self._is_simulated else "a step is running; end it first"
            raise EngineError(f"begin_step: {why}")
        scheduler = self._scheduler
        plan.start = tick_from(now)
        self._due = None
        if plan.start < self._stalled_until:
            return None
        has_step = scheduler.schedule() > 0
        self._note_preempted()
        if not has_step:
            return None
        self._time_step()
        plan.end = _NEVER
        batch, prefills = scheduler.batch, scheduler.prefills
        num_decoding = batch.num_sequences
        return Step(
            plan.first * SECONDS_PER_TICK,
            num_decoding + len(prefills),
            num_decoding + sum(chunk for _, chunk in prefills),
            len(prefills),
            batch.context_tokens,
        )

    def end_step(self, now: float) -> list[Emission]:
        """End the running step and give the tokens it brought, in order of admission.

        Raises:
            EngineError: no step is running.
        """
        plan = self._plan
        if not plan.steps:
            raise EngineError("end_step: no step is running; begin one first")
        end = max(tick_at(now), plan.start + 1)
        plan.begin(plan.start, 1, end - plan.start, 0)
        got = [sequence for sequence in self._scheduler.running if sequence.state is DECODING]
        got += [sequence for kind, sequence in self._complete() if kind is not FINISHED]
        self._events = []
        plan.steps = 0
        return [self._emission(sequence) for sequence in got if not sequence.is_leaving]

    def _emission(self, sequence: Sequence) -> Emission:
        if sequence.state is ENDED:
            return Emission(sequence.request_id, sequence.generated, True, sequence.cached_tokens)
        generated = sequence.offset + self._scheduler.batch.step - sequence.input_tokens
        return Emission(sequence.request_id, generated, False, sequence.cached_tokens)
