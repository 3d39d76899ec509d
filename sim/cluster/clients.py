"""The clients: they send when the workload says, whatever the cluster does, and some leave when they have waited enough.

Open loop: nobody waits for an answer before sending. The stream of arrivals is one call on the clock at a time; a request
costs one event on its way to the router, unless a gateway has limits to check on the way.
"""

from __future__ import annotations

from math import isnan, nan
from typing import Protocol

from sim.cluster.clock import Call, Clock, Turn
from sim.cluster.recorder import TIMED_OUT, Recorder
from sim.experiment.workload import WorkloadRequest

TIMEOUT_STATUS = 408


class Entry(Protocol):
    """Where requests go: the gateway."""

    turn: Turn
    """The turn of what happens at `entry_at`."""

    def entry_at(self, sent: float) -> float:
        """When something must be decided about a request sent at `sent`; asked once a request, in order of sending."""

    def enter(self, request: WorkloadRequest) -> None:
        """Decide it, at that time."""

    def leave(self, request: WorkloadRequest) -> None:
        """Its client has gone; called as the client hangs up."""


class Clients:
    """Everyone who sends. Feeds the requests of a workload in order of schedule."""

    def __init__(self, requests: tuple[WorkloadRequest, ...], clock: Clock, entry: Entry, recorder: Recorder) -> None:
        self._requests = requests
        self._clock = clock
        self._entry = entry
        self._recorder = recorder
        self._turn = entry.turn
        self._order = sorted(range(len(requests)), key=lambda number: (requests[number].scheduled, number))
        self._next = 0
        self._feed()

    def _feed(self) -> None:
        """Put the next request on the clock."""
        if self._next == len(self._order):
            return
        request = self._requests[self._order[self._next]]
        self._next += 1
        sent = request.scheduled
        self._recorder.sent[request.index] = sent
        self._clock.call_at(self._entry.entry_at(sent), self._turn + request.index, self._on_entry, request)
        if request.deadline_seconds is not None:
            self._clock.call_at(sent + request.deadline_seconds, Turn.LEAVE + request.index, self._on_patience, request)

    def _on_entry(self, call: Call) -> None:
        request: WorkloadRequest = call.about
        if not self._recorder.status[request.index]:
            self._entry.enter(request)
        self._feed()

    def _on_patience(self, call: Call) -> None:
        """Leave, unless the first token is there."""
        request: WorkloadRequest = call.about
        recorder = self._recorder
        index = request.index
        now = self._clock.now
        if recorder.status[index] or recorder.first_token[index] <= now:
            return
        if not isnan(recorder.first_token[index]):
            recorder.first_token[index] = nan
        recorder.end(index, now, TIMED_OUT, "no first token in time", TIMEOUT_STATUS)
        self._entry.leave(request)
