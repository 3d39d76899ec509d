"""The longest that an exchange may take, for all exchanges of a server at once.

All have the same time, so who began first ends first: one timer for the eldest stands for all. A timer for each costs a
request more than being noted and forgotten here.
"""

from __future__ import annotations

import asyncio

from reference.wire.relay import Exchange


class Deadlines:
    """Abandons exchanges that have taken too long. Used inside one event loop."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: dict[Exchange, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, exchange: Exchange, loop: asyncio.AbstractEventLoop) -> None:
        """Let an exchange's time begin."""
        self._ends[exchange] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look, loop)

    def end(self, exchange: Exchange) -> None:
        """The exchange has ended."""
        self._ends.pop(exchange, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for exchange, end in [*self._ends.items()]:
            if end > now:
                # the timer runs on the loop's own, coarser clock
                self._timer = loop.call_later(max(end - now, 0.001), self._look, loop)
                return
            del self._ends[exchange]
            exchange.abandon()
