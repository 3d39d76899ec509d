"""Simulated time: a simpy environment whose events are calls, in an order that is explicit to the last tie.

Two calls of the same instant happen in order of their `Turn`, calls of the same turn in order of the index they are made
with (a request's, a replica's), and only then in the order in which they were asked for. The order follows cause: the
world changes, then steps end, then answers arrive, then news, then decisions, then new requests, and the sampler sees
what is left of the instant.

Knows nothing of clusters. A call costs about a microsecond; the cluster spends some seven of them on a request.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from heapq import heappush
from typing import Any

import simpy

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


class Call(simpy.Event):
    """A callback at a time. It is handed the call itself and finds in `about` what it is about. Used once."""

    _ok = True
    about: Any

    def __init__(self, callback: Callable[[Call], None], about: Any) -> None:
        self.callbacks = [callback]
        self.about = about


class Clock(simpy.Environment):
    """The time of one flight, in seconds from its zero."""

    def call_at(self, when: float, turn: int, callback: Callable[[Call], None], about: Any = None) -> Call:
        """Call `callback` at `when` (not a delay: sums of delays round), in its turn among those of that instant."""
        call = Call(callback, about)
        heappush(self._queue, (when, turn, next(self._eid), call))
        return call

    def every(self, interval: float, turn: int, callback: Callable[[float], None], first: float | None = None) -> None:
        """Call `callback(now)` at `first` (default: `interval`) and at each whole `interval` after it, for ever."""
        start = interval if first is None else first
        ticks = 0

        def tick(call: Call) -> None:
            nonlocal ticks
            ticks += 1
            self.call_at(start + ticks * interval, turn, tick)
            callback(self._now)

        self.call_at(start, turn, tick)
