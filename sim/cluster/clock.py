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
from heapq import heappop, heappush
from typing import Any

import simpy
from simpy.core import StopSimulation

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

    def call_at(self, when: float, turn: int, function: Callable[[Any], None], about: Any = None) -> None:
        """Call `function(about)` at `when`, in its turn. A time and not a delay, because sums of delays round."""
        heappush(self._queue, (when, turn, next(self._eid), function, about))

    def every(self, interval: float, turn: int, function: Callable[[float], None], first: float | None = None) -> None:
        """Call `function(now)` at `first` (default: `interval`) and at each whole `interval` after it, for ever."""
        start = interval if first is None else first

        def tick(ticks: int) -> None:
            self.call_at(start + (ticks + 1) * interval, turn, tick, ticks + 1)
            function(self._now)

        self.call_at(start, turn, tick, 0)

    def step(self) -> None:
        """Take the next entry of the agenda, a call or an event.

        Raises:
            EmptySchedule: there is none.
        """
        queue = self._queue
        if queue and len(queue[0]) == _CALL_LENGTH:
            self._now, _, _, function, about = heappop(queue)
            function(about)
        else:
            super().step()

    def run(self, until: simpy.Event) -> Any:
        """Take entry after entry until an event of simpy has happened; give its value.

        Raises:
            IndexError: the agenda ran out before.
        """
        until.callbacks.append(StopSimulation.callback)
        queue, take = self._queue, heappop
        try:
            while True:
                entry = take(queue)
                try:
                    self._now, _, _, function, about = entry
                except ValueError:  # shorter: an event of simpy
                    heappush(queue, entry)
                    super().step()
                    continue
                function(about)
        except StopSimulation as stop:
            return stop.args[0]


_CALL_LENGTH = 5
