"""The engine on the wall clock: begin a step, wait until it would be over, end it, hand out its tokens, and again.

Steps end at absolute deadlines that follow from each other, so that lateness of the timer does not add up: a step that
is told of 1 ms late makes the next one 1 ms shorter to wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from reference.engine import Emission, Engine, Rejected, Sequence
from reference.engine.engine import Step
from reference.engine.sequence import WAITING

Now = Callable[[], float]

_MAX_LATENESS_SECONDS = 0.25
"""A step later than this is not caught up with: the machine slept, and a real engine would have, too."""


class Tokens(asyncio.Queue[Emission]):
    """The tokens of one sequence as they come, and how long it waited for its first step."""

    def __init__(self, sequence: Sequence, came_at: float) -> None:
        super().__init__()
        self.sequence = sequence
        self.came_at = came_at
        self.waited_seconds = 0.0


class EngineLoop:
    """Drives one engine for its server. `run` is a task that lives as long as the server."""

    def __init__(self, engine: Engine, now: Now, when_stepped: Callable[[Step], None] | None = None) -> None:
        self.engine = engine
        self._when_stepped = when_stepped
        """Told of each step after its end."""
        self._now = now
        self._last = now()
        self._listeners: dict[str | int, Tokens] = {}
        self._not_admitted: dict[str | int, Tokens] = {}
        self._work = asyncio.Event()
        self._stalled_until = 0.0
        self.step_began_at = 0.0

    def submit(self, sequence: Sequence) -> Tokens | Rejected:
        """Hand a sequence to the engine; its tokens come through the queue."""
        rejected = self.engine.submit(sequence, self._time())
        if rejected is not None:
            return rejected
        tokens = Tokens(sequence, self._last)
        self._listeners[sequence.request_id] = tokens
        self._not_admitted[sequence.request_id] = tokens
        self._work.set()
        return tokens

    def abort(self, request_id: str | int) -> None:
        """Let a sequence go; its seat is free from the next step on."""
        self._not_admitted.pop(request_id, None)
        if self._listeners.pop(request_id, None) is not None:
            self.engine.abort(request_id, self._time())

    def slow(self, factor: float) -> None:
        """Make steps take longer by a factor from the next one on."""
        self.engine.slow(factor, self._time())

    def stall(self, seconds: float) -> None:
        """Begin no step for a while."""
        self._stalled_until = self._time() + seconds
        self.engine.stall(self._stalled_until, self._time())

    async def run(self) -> None:
        """Take steps for ever."""
        due = self._now()
        while True:
            due = max(due, self._now() - _MAX_LATENESS_SECONDS)
            began = self._time()
            self.step_began_at = began
            step = self.engine.begin_step(began)
            if step is None:
                await self._wait_for_work()
                due = self._now()
                continue
            self._note_admitted(began)
            due += step.seconds
            wait = due - self._now()
            # a step that is over already still lets the server breathe
            await asyncio.sleep(wait if wait > 0 else 0)
            emissions = self.engine.end_step(self._time())
            if self._when_stepped is not None:
                self._when_stepped(step)
            self._hand_out(emissions)

    async def _wait_for_work(self) -> None:
        stalled = self._stalled_until - self._now()
        if stalled > 0:
            await asyncio.sleep(stalled)
            return
        self._work.clear()
        await self._work.wait()

    def _note_admitted(self, now: float) -> None:
        for request_id, tokens in list(self._not_admitted.items()):
            if tokens.sequence.state is not WAITING:
                del self._not_admitted[request_id]
                tokens.waited_seconds = now - tokens.came_at

    def _hand_out(self, emissions: list[Emission]) -> None:
        for emission in emissions:
            tokens = self._listeners.get(emission.request_id)
            if tokens is None:
                continue
            tokens.put_nowait(emission)
            if emission.is_finished:
                del self._listeners[emission.request_id]

    def _time(self) -> float:
        """Return the time, never before the last one: the engine takes calls in order of time."""
        self._last = max(self._last, self._now())
        return self._last
