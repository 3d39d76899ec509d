"""The clients: they send when the workload says, whatever the cluster does, and some leave after waiting enough.

Open loop: nobody waits for an answer before sending. The stream of arrivals is one call on the clock at a time; a
request costs one call on its way to the router, unless a gateway has limits to check on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import Final, Protocol

from sim.cluster.agenda import Call
from sim.cluster.clock import Clock, Turn
from sim.cluster.recorder import TIMED_OUT, Recorder
from sim.experiment.workload import WorkloadRequest

TIMEOUT_STATUS = 408

_LEAVE: Final = int(Turn.LEAVE)


class Entry(Protocol):
    """Where requests go: the gateway."""

    turn: int
    """In whose turn something is first decided about a request."""

    def decided_at(self, request: WorkloadRequest) -> float:
        """Take the next request that is sent, and say when something is first decided about it."""

    def entrance(self) -> Callable[[WorkloadRequest], Call | None]:
        """Give who decides it, at that time; what it gives back must be given back or put on the agenda."""

    def leave(self, request: WorkloadRequest) -> None:
        """Its client has gone; called as the client hangs up."""


class Clients:
    """Everyone who sends. Feeds the requests of a workload in order of schedule."""

    def __init__(self, requests: tuple[WorkloadRequest, ...], clock: Clock, entry: Entry, recorder: Recorder) -> None:
        self._agenda = clock.agenda
        self._entry = entry
        self._enter = entry.entrance()
        self._turn = entry.turn
        self._recorder = recorder
        self._requests = requests
        self._num_fed = 0
        self._entering: Final = self._on_entry
        self._feed()

    def _feed(self) -> None:
        """Put the next request on the clock."""
        number = self._num_fed
        if number == len(self._requests):
            return
        self._num_fed = number + 1
        request = self._requests[number]
        index, sent = request.index, request.scheduled
        self._agenda.call_at(self._entry.decided_at(request), self._turn + index, self._entering, request)
        self._recorder.sent[index] = sent
        if request.deadline_seconds is not None:
            self._agenda.call_at(sent + request.deadline_seconds, _LEAVE + index, self._on_patience, request)

    def _on_entry(self, request: WorkloadRequest) -> Call | None:
        self._feed()
        return None if self._recorder.status[request.index] else self._enter(request)

    def _on_patience(self, request: WorkloadRequest) -> None:
        """Leave, unless the first token is there."""
        recorder = self._recorder
        index = request.index
        now = self._agenda.now
        if recorder.status[index] or recorder.first_token[index] <= now:
            return
        recorder.first_token[index] = nan
        recorder.end(index, now, TIMED_OUT, "no first token in time", TIMEOUT_STATUS)
        self._entry.leave(request)
