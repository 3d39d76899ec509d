"""What happens next: calls in order of time, then turn, then asking. The part of the clock that every call passes.

A call may give back the call that follows from it (`following`), instead of asking for it with `call_at`: the same
place in the order, and cheaper, because most of the time nothing comes before it.

Knows nothing of simpy but that its events, which are shorter entries of the same heap, are taken by somebody else.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush, heappushpop
from itertools import count
from typing import Any

Call = tuple[float, int, int, Callable[[Any], Any], Any]
"""(when, turn, serial, function, its argument): `function(argument)` at `when`. It gives a `Call` back, or None."""


class Agenda:
    """The calls ahead, and the time. Lives as long as its clock; `run` takes call after call."""

    __slots__ = ("_next_serial", "now", "queue", "serial")

    def __init__(self) -> None:
        self.now: float = 0.0
        """Seconds from the flight's zero."""
        self.queue: list[Any] = []
        """A heap."""
        self.serial = count()
        """Numbers entries in the order of asking; events of simpy draw from it, too."""
        self._next_serial: Callable[[], int] = self.serial.__next__

    def call_at(self, when: float, turn: int, function: Callable[[Any], Any], about: Any = None) -> None:
        """Call `function(about)` at `when`, in its turn. A time and not a delay, because sums of delays round."""
        heappush(self.queue, (when, turn, self._next_serial(), function, about))

    def add(self, call: Call) -> None:
        """Put in a call that was made by `following` and not given back."""
        heappush(self.queue, call)

    def following(self, when: float, turn: int, function: Callable[[Any], Any], about: Any = None) -> Call:
        """Make the call that a call gives back as its last deed."""
        return (when, turn, self._next_serial(), function, about)

    def step(self, take_event: Callable[[], None]) -> None:
        """Take one entry: a call, or an event of simpy, which `take_event` takes.

        Raises:
            IndexError: there is none.
        """
        entry = self.queue[0]
        if len(entry) != _CALL_LENGTH:
            take_event()
            return
        heappop(self.queue)
        self.now = entry[0]
        following = entry[3](entry[4])
        if following is not None:
            heappush(self.queue, following)

    def run(self, take_event: Callable[[], None]) -> None:
        """Take entry after entry, until an event of simpy raises.

        Raises:
            IndexError: the agenda ran out before.
        """
        queue = self.queue
        entry = heappop(queue)
        while True:
            try:
                when, _, _, function, about = entry
            except ValueError:  # shorter: an event of simpy
                heappush(queue, entry)
                take_event()
                entry = heappop(queue)
                continue
            self.now = when
            following = function(about)
            entry = heappop(queue) if following is None else heappushpop(queue, following)


_CALL_LENGTH = 5
