"""What happens next: calls in order of time, then turn, then asking. The part of the clock that every call passes.

A call may give back the call that follows from it (`following`), instead of asking for it with `call_at`: the same
place in the order, and cheaper, because most of the time nothing comes before it.

Knows nothing of simpy; the clock makes calls of its events.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush, heappushpop
from typing import Any, Final

# compiled, a final name of this module costs no look-up
_push: Final = heappush
_pop: Final = heappop
_push_and_pop: Final = heappushpop

Call = tuple[float, int, int, Callable[[Any], Any], Any]
"""(when, turn, serial, function, its argument): `function(argument)` at `when`. It gives a `Call` back, or None."""


class Agenda:
    """The calls ahead, and the time. Lives as long as its clock; `run` takes call after call."""

    __slots__ = ("now", "queue", "serial")

    def __init__(self) -> None:
        self.now: float = 0.0
        """Seconds from the flight's zero."""
        self.queue: list[Any] = []
        """A heap."""
        self.serial = 0
        """Numbers entries in the order of asking."""

    def call_at(self, when: float, turn: int, function: Callable[[Any], Any], about: Any = None) -> None:
        """Call `function(about)` at `when`, in its turn. A time and not a delay, because sums of delays round."""
        self.serial = serial = self.serial + 1
        _push(self.queue, (when, turn, serial, function, about))

    def add(self, call: Call) -> None:
        """Put in a call that was made by `following` and not given back."""
        _push(self.queue, call)

    def following(self, when: float, turn: int, function: Callable[[Any], Any], about: Any = None) -> Call:
        """Make the call that a call gives back as its last deed."""
        self.serial = serial = self.serial + 1
        return (when, turn, serial, function, about)

    def step(self) -> None:
        """Take one call.

        Raises:
            IndexError: there is none.
        """
        self.now, _, _, function, about = _pop(self.queue)
        following = function(about)
        if following is not None:
            _push(self.queue, following)

    def run(self) -> None:
        """Take call after call, until one raises.

        Raises:
            IndexError: the agenda ran out before.
        """
        queue = self.queue
        call: tuple[Any, ...] = _pop(queue)
        while True:
            # by index: compiled, taking the tuple apart would turn two more of its numbers into C's, for nothing
            self.now = call[0]
            following = call[3](call[4])
            call = _pop(queue) if following is None else _push_and_pop(queue, following)
