"""The clients: they send when the workload says, whatever the cluster does, and some leave after waiting enough.

Open loop: nobody waits for an answer before sending. The stream of arrivals is one call on the clock at a time; a
request costs one call on its way to the router, unless a gateway has limits to check on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

    def entries(self, requests: tuple[WorkloadRequest, ...]) -> Iterator[tuple[float, int, WorkloadRequest]]:
        """Give each request with when something must first be decided about it, and in whose turn."""

    def entrance(self) -> Callable[[WorkloadRequest], Call | None]:
        """Give who decides it, at that time."""

    def leave(self, request: WorkloadRequest) -> None:
        """Its client has gone; called as the client hangs up."""


class Clients:
    """Everyone who sends. Feeds the requests of a workload in order of schedule."""

    def __init__(self, requests: tuple[WorkloadRequest, ...], clock: Clock, entry: Entry, recorder: Recorder) -> None:
        self._agenda = clock.agenda
        self._entry = entry
        self._enter = entry.entrance()
        self._recorder = recorder
        self._entries = entry.entries(requests)
        self._feed()

    def _feed(self) -> None:
        """Put the next request on the clock."""
        for when, turn, request in self._entries:
            self._agenda.call_at(when, turn, self._on_entry, request)
            self._recorder.sent[request.index] = sent = request.scheduled
            if request.deadline_seconds is not None:
                self._agenda.call_at(
                    sent + request.deadline_seconds, _LEAVE + request.index, self._on_patience, request
                )
            return

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
