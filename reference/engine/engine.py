"""One replica in time: steps follow each other, sequences come and go, and runs of equal steps are leapt over.

Two ways of driving the same object; use one of them:

- a worker on the wall clock: `submit`, then `begin_step(now)`, wait `Step.seconds`, `end_step(now)`, and again;
- a simulator: `submit`, `abort`, ..., then pass time until `wake_at()` and call `advance(now)`, which gives events.

Calls come in order of `now`, in seconds since any zero (times are exact up to 2**17 s, 36 hours). At one instant the
order is: the step that ends there ends, its events happen, the next step begins; whoever is submitted at that very
instant still joins it. A sequence aborted while its step runs leaves at the end of the step.
"""

from __future__ import annotations

from math import ceil, sqrt
from typing import NamedTuple

from reference.engine.gaps import GapHistogram
from reference.engine.scheduler import Counters, Scheduler
from reference.engine.sequence import (
    ENDED,
    FINISHED,
    FIRST_TOKEN,
    NEW,
    WAITING,
    Emission,
    EngineError,
    Event,
    Rejected,
    Sequence,
)
from reference.engine.settings import EngineSettings
from reference.engine.step_cost import TICKS_PER_SECOND, StepCost

_EXACT_TICKS = 2**53
_SECONDS_PER_TICK = 1.0 / TICKS_PER_SECOND


class Step(NamedTuple):
    """A step that has begun."""

    seconds: float
    num_sequences: int
    num_tokens: int


class Engine:
    """A replica's engine. Lives as long as the replica; `crash` empties it and it serves on.

    Between two calls it is idle, or it holds a plan: `_plan_steps` steps of the same batch, the first of which began at
    tick `_start` and has its blocks. Time passes only inside calls.
    """

    __slots__ = (
        "_affine",
        "_cost",
        "_due",
        "_end",
        "_events",
        "_factor",
        "_fixed",
        "_last_end",
        "_leaping",
        "_leaving",
        "_live",
        "_plan_steps",
        "_scheduler",
        "_slope",
        "_stalled_until",
        "_start",
        "counters",
        "gaps",
        "settings",
    )

    def __init__(self, settings: EngineSettings, cost: StepCost) -> None:
        self.settings = settings
        self._cost = cost
        self._scheduler = Scheduler(settings)
        self.counters: Counters = self._scheduler.counters
        self.gaps = GapHistogram()
        """Inter-token latency of all sequences, pooled."""
        self._live: dict[str | int, Sequence] = {}
        self._events: list[Event] = []
        self._leaving: list[Sequence] = []
        self._leaping = settings.leaping
        self._factor = 1.0
        self._affine: list[int] = []
        """Ticks of a decode step by batch size, context apart."""
        self._slope = 0
        """Ticks per token of context."""
        self._plan_steps = 0
        self._start = 0
        self._end = 0
        self._fixed = 0
        """Ticks of the plan's first step."""
        self._last_end = 0
        """Tick at which the step before the plan's first ended: gaps count from there."""
        self._due: int | None = None
        """Tick at which an idle engine looks at its queue again."""
        self._stalled_until = 0
        self._set_factor(1.0)

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
        pool = self._scheduler.pool
        return (pool.total - pool.free) / pool.total

    def num_generated(self, request_id: str | int) -> int:
        """Tokens a live sequence had received when time last passed; 0 for an unknown one."""
        sequence = self._live.get(request_id)
        if sequence is None:
            return 0
        if sequence.state == "decoding":
            return sequence.offset + self._scheduler.step - sequence.input_tokens
        return sequence.generated

    # What both ways of driving share

    def submit(self, sequence: Sequence, now: float) -> Rejected | None:
        """Put a sequence into the queue, or say why it can never be served.

        Raises:
            EngineError: the sequence was submitted before, or its id is in use here.
        """
        if sequence.state is not NEW or sequence.request_id in self._live:
            raise EngineError(f"{sequence!r} is already in an engine")
        self._catch_up(_tick_at(now))
        scheduler = self._scheduler
        why = scheduler.why_not(sequence)
        if why is not None:
            self.counters.rejected += 1
            return Rejected(why)
        self.counters.submitted += 1
        self._live[sequence.request_id] = sequence
        steps = self._plan_steps
        if steps > 1 and not scheduler.is_blocked:
            self._cut()
        scheduler.enqueue(sequence)
        if not steps:
            if self._due is None:
                self._due = _tick_from(now)
        elif self._start >= _tick_from(now) and scheduler.admit():
            self._time_step()
        return None

    def abort(self, request_id: str | int, now: float) -> bool:
        """End a sequence without a further event; False when it is not here (any more)."""
        self._catch_up(_tick_at(now))
        sequence = self._live.pop(request_id, None)
        if sequence is None:
            return False
        self._cut()
        self.counters.aborted += 1
        if self._plan_steps and sequence.state is not WAITING:
            sequence.is_leaving = True
            self._leaving.append(sequence)
        else:
            self._scheduler.leave(sequence)
        return True

    def slow(self, factor: float, now: float) -> None:
        """Make every step that begins from now on take `factor` times as long; 1 is full speed again.

        Raises:
            EngineError: the factor is not positive.
        """
        if not factor > 0:
            raise EngineError(f"slow: factor is {factor}; it must be above 0")
        self._catch_up(_tick_at(now))
        self._cut()
        self._set_factor(factor)

    def stall(self, until: float, now: float) -> None:
        """Begin no step before `until`; the one that runs now still ends."""
        self._catch_up(_tick_at(now))
        self._cut()
        self._stalled_until = max(self._stalled_until, _tick_from(until))

    def crash(self, now: float) -> list[str | int]:
        """Lose every sequence and every block at once; give back the ids of the lost, running ones first."""
        self._catch_up(_tick_at(now))
        lost = [sequence.request_id for sequence in self._scheduler.lose_everything() if not sequence.is_leaving]
        self.counters.lost += len(lost)
        self._live.clear()
        self._leaving.clear()
        self._plan_steps = 0
        self._due = None
        self._stalled_until = 0
        return lost

    # Driven by a simulator

    def wake_at(self) -> float | None:
        """Give the time at which `advance` should be called next, no later than the next event; None: never."""
        if self._events:
            return self._events[0].at
        if not self._plan_steps:
            if self._due is None:
                return None
            self._begin(self._due)
            if not self._plan_steps:
                return None if self._due is None else self._due * _SECONDS_PER_TICK
        return self._end * _SECONDS_PER_TICK

    def advance(self, now: float) -> list[Event]:
        """Pass the time up to `now`, and give the events since the last call, in order of time."""
        self._catch_up(_tick_at(now))
        events = self._events
        if events:
            self._events = []
        return events

    # Driven by a worker

    def begin_step(self, now: float) -> Step | None:
        """Begin the next step; None when there is nothing to do, or the engine is stalled.

        Raises:
            EngineError: a step is running.
        """
        if self._plan_steps:
            raise EngineError("begin_step: a step is running; end it first")
        scheduler = self._scheduler
        start = _tick_from(now)
        self._due = None
        if start < self._stalled_until or not self._schedule():
            return None
        self._start = start
        self._time_step()
        self._end = _NEVER
        num_tokens = scheduler.num_decoding + sum(chunk for _, chunk in scheduler.prefills)
        num_sequences = scheduler.num_decoding + len(scheduler.prefills)
        return Step(self._fixed * _SECONDS_PER_TICK, num_sequences, num_tokens)

    def end_step(self, now: float) -> list[Emission]:
        """End the running step and give the tokens it brought, in order of admission.

        Raises:
            EngineError: no step is running.
        """
        if not self._plan_steps:
            raise EngineError("end_step: no step is running; begin one first")
        scheduler = self._scheduler
        decoding = [sequence for sequence in scheduler.running if sequence.state == "decoding"]
        self._complete(max(_tick_at(now), self._start))
        self._events = []
        self._plan_steps = 0
        step = scheduler.step
        got = [*decoding, *scheduler.first_tokens, *scheduler.resumed]
        got.sort(key=_admission)
        return [
            Emission(
                sequence.request_id,
                sequence.generated if sequence.state is ENDED else sequence.offset + step - sequence.input_tokens,
                sequence.state is ENDED,
                sequence.cached_tokens,
            )
            for sequence in got
            if not sequence.is_leaving
        ]

    # Time

    def _catch_up(self, now: int) -> None:
        """Pass the time up to tick `now`: what ends by then ends, and what follows has begun."""
        while True:
            steps = self._plan_steps
            if not steps:
                due = self._due
                if due is None or due > now:
                    return
                self._begin(due)
                if not self._plan_steps:
                    return
            elif self._end <= now:
                end = self._end
                if steps > 1:
                    self._leap(steps - 1)
                self._complete(end)
                self._begin(end)
            else:
                if steps > 1 and now > self._start:
                    whole = self._whole_steps(now - self._start)
                    if whole:
                        self._leap(whole)
                return

    def _begin(self, tick: int) -> None:
        """Decide what begins at `tick`: a step, several equal ones, or nothing."""
        self._due = None
        self._plan_steps = 0
        scheduler = self._scheduler
        if tick < self._stalled_until:
            if scheduler.running or scheduler.waiting:
                self._due = self._stalled_until
            return
        if not self._schedule():
            return
        self._start = tick
        self._time_step()
        if scheduler.prefills or not self._leaping:
            return
        steps = scheduler.steps_ahead()
        if steps > 1:
            self._plan_steps = steps
            self._end = tick + self._ticks_of(steps)

    def _schedule(self) -> bool:
        scheduler = self._scheduler
        has_step = scheduler.schedule()
        for sequence in scheduler.preempted:
            sequence.last_token_tick = self._last_end
        return has_step

    def _time_step(self) -> None:
        """Make the plan one step of the batch as scheduled."""
        scheduler = self._scheduler
        batch = scheduler.num_decoding
        if scheduler.prefills:
            ticks = self._mixed_ticks()
        else:
            affine = self._affine
            if batch >= len(affine):
                self._extend_affine(batch)
            ticks = affine[batch] + self._slope * scheduler.context_tokens
        self._fixed = ticks
        self._end = self._start + ticks
        self._plan_steps = 1

    def _mixed_ticks(self) -> int:
        scheduler = self._scheduler
        tokens = 0
        pairs = 0.0
        for sequence, chunk in scheduler.prefills:
            tokens += chunk
            pairs += chunk * (sequence.computed + 0.5 * chunk)
        batch = scheduler.num_decoding
        seconds = self._cost.seconds(
            num_sequences=batch + len(scheduler.prefills),
            num_tokens=batch + tokens,
            context_tokens=scheduler.context_tokens,
            prefill_tokens=tokens,
            prefill_pairs=pairs,
        )
        return max(1, round(seconds * self._factor * TICKS_PER_SECOND))

    def _set_factor(self, factor: float) -> None:
        self._factor = factor
        self._affine = []
        self._slope = round(self._cost.per_context_token * factor * TICKS_PER_SECOND)

    def _extend_affine(self, batch: int) -> None:
        for size in range(len(self._affine), batch + 1):
            fixed, _ = self._cost.decode_affine(size)
            self._affine.append(max(1, round(fixed * self._factor * TICKS_PER_SECOND)))

    def _ticks_of(self, steps: int) -> int:
        """How long the first `steps` steps of the plan take together."""
        growth = self._slope * self._scheduler.num_decoding
        return steps * self._fixed + growth * (steps * (steps - 1) // 2)

    def _whole_steps(self, ticks: int) -> int:
        """How many steps of the plan end within `ticks` of its start; fewer than all."""
        growth = self._slope * self._scheduler.num_decoding
        if not growth:
            return ticks // self._fixed
        linear = self._fixed - 0.5 * growth
        steps = int((sqrt(linear * linear + 2.0 * growth * ticks) - linear) / growth)
        while self._ticks_of(steps) > ticks:
            steps -= 1
        while self._ticks_of(steps + 1) <= ticks:
            steps += 1
        return steps

    def _leap(self, steps: int) -> None:
        """Take `steps` whole steps of the plan, fewer than all; the next one has begun then."""
        scheduler = self._scheduler
        batch = scheduler.num_decoding
        growth = self._slope * batch
        start = self._start
        first = self._fixed
        if start != self._last_end:
            self.gaps.add(start + first - self._last_end, batch)
            if steps > 1:
                self.gaps.add_progression(first + growth, growth, steps - 1, batch)
        else:
            self.gaps.add_progression(first, growth, steps, batch)
        self._start = self._last_end = start + self._ticks_of(steps)
        self._fixed = first + growth * steps
        self._plan_steps -= steps
        scheduler.leap(steps)

    def _cut(self) -> None:
        """Let the plan end with the step that runs now."""
        if self._plan_steps > 1:
            self._plan_steps = 1
            self._end = self._start + self._fixed

    def _complete(self, end: int) -> None:
        """End the plan's last step at tick `end` and note its events."""
        scheduler = self._scheduler
        batch = scheduler.num_decoding
        if batch:
            self.gaps.add(end - self._last_end, batch)
        self._last_end = end
        scheduler.complete()
        at = end * _SECONDS_PER_TICK
        for sequence in scheduler.first_tokens:
            if not sequence.is_leaving:
                self._events.append(Event(FIRST_TOKEN, sequence.request_id, at, 1, sequence.cached_tokens))
        for sequence in scheduler.resumed:
            self.gaps.add(end - sequence.last_token_tick, 1)
        for sequence in scheduler.finished:
            if not sequence.is_leaving:
                del self._live[sequence.request_id]
                event = Event(FINISHED, sequence.request_id, at, sequence.output_tokens, sequence.cached_tokens)
                self._events.append(event)
        if self._leaving:
            self._let_go()

    def _let_go(self) -> None:
        for sequence in self._leaving:
            if sequence.state is ENDED:
                self.counters.finished -= 1
            else:
                self._scheduler.leave(sequence)
        self._leaving.clear()


_NEVER = 2**62


def _admission(sequence: Sequence) -> int:
    return sequence.admission


def _tick_from(now: float) -> int:
    """The first tick at or after `now`."""
    return ceil(now * TICKS_PER_SECOND)


def _tick_at(now: float) -> int:
    """The last tick at or before `now`, as floats tell it."""
    tick = int(now * TICKS_PER_SECOND)
    if tick >= _EXACT_TICKS:
        while (tick + 1) * _SECONDS_PER_TICK <= now:
            tick += 1
    return tick
