"""Clients that send again what brought no token, as their class's rule has it; each send is a request of its own.

The decision is `sim.experiment.resending`'s, the same as the simulator's.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from e2e.replay.plan import Planned
from e2e.replay.rows import CANCELLED, OK, Row
from sim.experiment.resending import Resending
from sim.experiment.schema import ClientRetry
from sim.experiment.workload import Workload

if TYPE_CHECKING:
    from e2e.replay.sender import Sender


class Persistence:
    """Who sends in a pilot: once, or again where the class of a request has a rule."""

    def __init__(self, sender: Sender, rules: Mapping[str, dict[str, Any]], seed: str) -> None:
        chance = random.Random(seed).random
        self._sender = sender
        self._resending = {
            name: Resending(ClientRetry.model_validate(rule), chance) for name, rule in sorted(rules.items())
        }

    def send(self, planned: Planned) -> Row:
        """Send a request, and again while its rule says so; the row is that of the last send, `sent` of the first."""
        resending = self._resending.get(planned.traffic_class)
        if resending is None:
            return self._sender.send(planned)
        resending.count()
        row = self._sender.send(planned)
        while row.status not in (OK, CANCELLED) and row.first_token is None:
            delay = resending.delay(row.sends, row.status, row.http_status, row.ended or 0.0, row.retry_after)
            if delay is None:
                break
            if not self._waits(delay, row):
                break
            again = self._sender.send(planned)
            again.sent, again.sends, again.attempts = row.sent, row.sends + 1, row.attempts + again.attempts
            row = again
        return row

    def _waits(self, seconds: float, row: Row) -> bool:
        """Pass a backoff; False when the flight is over before."""
        import gevent

        try:
            gevent.sleep(seconds)
        except gevent.GreenletExit:
            row.status, row.reason, row.ended = CANCELLED, "flight over", time.monotonic() - self._sender.zero
            return False
        return True


def account_of(rows: Sequence[Row], workload: Workload, rules: Mapping[str, ClientRetry]) -> dict[str, int]:
    """Count what the clients of the classes with a rule did, as the simulator does."""
    theirs = [row for row, asked in zip(rows, workload.requests, strict=True) if asked.traffic_class in rules]
    return {
        "resends": sum(row.sends - 1 for row in theirs),
        "requests_sent_again": sum(1 for row in theirs if row.sends > 1),
        "given_up": sum(1 for row in theirs if row.status not in (OK, CANCELLED) and row.first_token is None),
    }
