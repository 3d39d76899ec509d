"""Clients that send again: what makes a retry storm. Used instead of `Clients` where a class of the scenario retries.

First sends come when the workload says, whatever the cluster does; a send that brought no token is followed by another
one as its class's `retry` has it. Each send is a request of its own to gateway, router and replicas, with a row of its
own beyond those of the workload; when the flight is over the rows of a request are folded into one.

A send is a call on the clock here, so that gateways take first sends and resends in the order in which they come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isnan, nan
from typing import Any

import numpy as np

from reference.policy.retry import retry_after
from sim.cluster.agenda import Call
from sim.cluster.clients import TIMEOUT_STATUS, Entry
from sim.cluster.clock import Clock, Turn
from sim.cluster.recorder import CANCELLED, TIMED_OUT, Recorder
from sim.experiment.record import RunRecord
from sim.experiment.resending import Resending
from sim.experiment.workload import WorkloadRequest


class PersistentClients:
    """Everyone who sends. `requests` begins as those of the workload and grows with each resend."""

    def __init__(
        self,
        requests: list[WorkloadRequest],
        resending: Mapping[str, Resending],
        clock: Clock,
        entry: Entry,
        recorder: Recorder,
    ) -> None:
        self._requests = requests
        self._num_first = len(requests)
        self._resending = resending
        """By traffic class; classes that are not named send once."""
        self._clock = clock
        self._entry = entry
        self._enter = entry.entrance()
        self._recorder = recorder
        self._again: dict[int, list[int]] = {}
        """The rows of a request's resends, in order, by the row of its first send."""
        self._first: dict[int, int] = {}
        """The other way round."""
        recorder.when_lost = self._on_lost
        self._feed(0)

    def _feed(self, index: int) -> None:
        """Put a request of the workload on the clock."""
        if index < self._num_first:
            request = self._requests[index]
            self._clock.call_at(request.scheduled, Turn.GATEWAY + index, self._on_first, request)

    def _on_first(self, request: WorkloadRequest) -> None:
        resending = self._resending.get(request.traffic_class)
        if resending is not None:
            resending.count()
        self._send(request)
        self._feed(request.index + 1)

    def _send(self, request: WorkloadRequest) -> None:
        index = request.index
        if self._recorder.status[index]:
            return
        clock = self._clock
        now = self._recorder.sent[index] = clock.now
        clock.call_at(self._entry.decided_at(request), self._entry.turn + index, self._on_entry, request)
        if request.deadline_seconds is not None:
            clock.call_at(now + request.deadline_seconds, Turn.LEAVE + index, self._on_patience, request)

    def _on_entry(self, request: WorkloadRequest) -> Call | None:
        return None if self._recorder.status[request.index] else self._enter(request)

    def _on_patience(self, request: WorkloadRequest) -> None:
        """Hang up, unless the first token is there."""
        recorder, index, now = self._recorder, request.index, self._clock.now
        if recorder.status[index] or recorder.first_token[index] <= now:
            return
        recorder.first_token[index] = nan
        recorder.end(index, now, TIMED_OUT, "no first token in time", TIMEOUT_STATUS)
        self._entry.leave(request)

    def _on_lost(self, index: int, at: float, status: str, http_status: int, wait: float | None) -> None:
        """A send has ended without success: have it sent again, or not."""
        if status == CANCELLED or not isnan(self._recorder.first_token[index]):
            return
        request = self._requests[index]
        resending = self._resending.get(request.traffic_class)
        if resending is None:
            return
        first = self._first.get(index, index)
        again = self._again.setdefault(first, [])
        told = None if wait is None else float(retry_after(wait))
        delay = resending.delay(1 + len(again), status, http_status, at, told)
        if delay is None:
            return
        row = self._recorder.open_row()
        resent = replace(request, index=row, scheduled=at + delay)
        self._requests.append(resent)
        again.append(row)
        self._first[row] = first
        self._clock.call_at(resent.scheduled, Turn.GATEWAY + row, self._send, resent)

    # After landing

    def fold_into(self, record: RunRecord, instants: list[float]) -> None:
        """Make one row of each request's sends, number its decisions through, and add what clients did."""
        recorder, count = self._recorder, self._num_first
        resent_at = sorted(sent for sent in recorder.sent[count:] if not isnan(sent))
        earlier = self._attempts_before()
        record.decisions = [
            (at, self._first.get(index, index), attempt + earlier.get(index, 0), endpoint, reason, scores)
            for at, index, attempt, endpoint, reason, scores in record.decisions
        ]
        record.requests = {name: self._folded(name, column) for name, column in record.requests.items()}
        record.samples.add("clients", "resends", instants[1:], _resends_per_second(resent_at, instants))
        record.facts["client_retries"] = {
            "resends": len(resent_at),
            "requests_sent_again": sum(1 for sends in record.requests["sends"] if sends > 1),
            "given_up": sum(one.num_given_up for one in self._resending.values()),
        }

    def _attempts_before(self) -> dict[int, int]:
        """Count the dispatches of a request's earlier sends, by the row of each resend."""
        found: dict[int, int] = {}
        attempts = self._recorder.attempts
        for first, rows in self._again.items():
            total = attempts[first]
            for row in rows:
                found[row] = total
                total += attempts[row]
        return found

    def _folded(self, name: str, column: list[Any]) -> list[Any]:
        if len(column) == self._num_first:
            return column
        folded = column[: self._num_first]
        for first, rows in self._again.items():
            if name in ("attempts", "sends"):
                folded[first] += sum(column[row] for row in rows)
            elif rows and name != "sent":
                folded[first] = column[rows[-1]]
        return folded


def _resends_per_second(resent_at: list[float], instants: list[float]) -> list[float]:
    """Count the resends between the sample instants, per second."""
    before = np.searchsorted(resent_at, instants, side="right")
    rates: list[float] = (np.diff(before) / np.diff(instants)).tolist()
    return rates
