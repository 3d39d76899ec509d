"""Simulated time: a simpy environment whose events are calls, in an order that is explicit to the last tie.

Two calls of the same instant happen in order of their `Turn`, calls of the same turn in order of the index they are
made with (a request's, a replica's), and only then in the order in which they were asked for. The order follows cause:
the world changes, then steps end, then answers arrive, then news, then decisions, then new requests, and the sampler
sees what is left of the instant.

Knows nothing of clusters. A cluster spends some seven calls on a request, so a call must be cheap.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from heapq import heappush
from typing import Any

import simpy
from simpy.core import EmptySchedule, StopSimulation

from sim.cluster.agenda import Agenda, Call

INDEX_BITS = 40


class Turn(IntEnum):
    """Who comes first when several things happen at one instant. Each value leaves room for an index below it."""

    FAULT = 0 << INDEX_BITS
    """Something breaks, or is whole again."""
    READY = 1 << INDEX_BITS
    """A replica has started."""
    STEP = 2 << INDEX_BITS
    """A replica's step ends."""
    ANSWER = 3 << INDEX_BITS
    """News of requests reaches the router from a replica: finished, failed, refused."""
    OBSERVE = 4 << INDEX_BITS
    """What a scrape read reaches the router."""
    HEALTH = 5 << INDEX_BITS
    """The router acts on health checks."""
    SCALE = 6 << INDEX_BITS
    """The autoscaler decides."""
    LEAVE = 7 << INDEX_BITS
    """A client gives up, and its leaving travels on."""
    EXPIRE = 8 << INDEX_BITS
    """The router's own deadlines pass."""
    GATEWAY = 9 << INDEX_BITS
    """A request reaches the gateway, or news of one does."""
    ARRIVE = 10 << INDEX_BITS
    """A request reaches the router."""
    SUBMIT = 11 << INDEX_BITS
    """A request reaches a replica."""
    SCRAPE = 12 << INDEX_BITS
    """A scrape reads a replica."""
    SAMPLE = 13 << INDEX_BITS
    """The recorder looks at everything."""
    LANDING = 14 << INDEX_BITS
    """The flight is over."""


class Clock(simpy.Environment):  # type: ignore[misc]  # simpy is not followed
    """The time of one flight, in seconds from its zero.

    A call is an event that nobody waits for: it stands in simpy's own agenda as a bare function with its argument,
    which costs a third of an `Event` with a callback. Events and processes of simpy work beside calls.
    """

    def __init__(self) -> None:
        self.agenda = agenda = Agenda()
        """Who makes many calls makes them there."""
        super().__init__()
        self._queue = agenda.queue

    @property
    def _now(self) -> float:
        """Simpy's own name for the time."""
        return self.agenda.now

    @_now.setter
    def _now(self, now: float) -> None:
        self.agenda.now = float(now)

    def call_at(self, when: float, turn: int, function: Callable[[Any], Any], about: Any = None) -> None:
        """Call `function(about)` at `when`, in its turn."""
        self.agenda.call_at(when, turn, function, about)

    def every(self, interval: float, turn: int, function: Callable[[float], None], first: float | None = None) -> None:
        """Call `function(now)` at `first` (default: `interval`) and at each whole `interval` after it, for ever."""
        start = interval if first is None else first
        agenda = self.agenda

        def tick(ticks: int) -> Call:
            function(agenda.now)
            return agenda.following(start + (ticks + 1) * interval, turn, tick, ticks + 1)

        self.call_at(start, turn, tick, 0)

    def schedule(self, event: simpy.Event, priority: int = simpy.events.NORMAL, delay: float = 0) -> None:
        """Put an event of simpy among the calls. Its priority, 0 or 1, is its turn: it comes before all others."""
        self.agenda.call_at(self._now + delay, int(priority), self._take, event)

    def step(self) -> None:
        """Take the next entry of the agenda, a call or an event.

        Raises:
            EmptySchedule: there is none.
        """
        if not self._queue:
            raise EmptySchedule
        self.agenda.step()

    def run(self, until: simpy.Event) -> Any:
        """Take entry after entry until an event of simpy has happened; give its value.

        Raises:
            IndexError: the agenda ran out before.
        """
        until.callbacks.append(StopSimulation.callback)
        try:
            self.agenda.run()
        except StopSimulation as stop:
            return stop.args[0]

    def _take(self, event: simpy.Event) -> None:
        """Let simpy process an event: it stands before everything for the moment in which simpy takes it."""
        heappush(self._queue, (self._now, -1, 0, event))
        super().step()
