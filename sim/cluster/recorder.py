"""What happened, as columns: a row for each request, the decisions about it, and what befell the cluster.

Everything is seen from the client: the caller adds the hops on the way back. Refuses to judge; measures do that.
"""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import Any, Final

from sim.experiment.decisions import Decisions
from sim.experiment.record import RunRecord
from sim.experiment.samples import Samples
from sim.experiment.workload import Workload

OK: Final = "ok"
REFUSED: Final = "refused"
FAILED: Final = "failed"
TIMED_OUT: Final = "timed_out"
CANCELLED: Final = "cancelled"

OK_STATUS: Final = 200


class Recorder:
    """The rows of one flight. A request's row is written while it flies and closed once, by the first to end it."""

    def __init__(self, workload: Workload, when_all_ended: Callable[[], None]) -> None:
        self._workload = workload
        self._when_all_ended = when_all_ended
        self.when_lost: Callable[[int, float, str, int, float | None], None] | None = None
        """Told of each row that is closed without success: its index, when, status, HTTP status, retry_after."""
        count = len(workload.requests)
        self.num_open = count
        """Requests not ended, those yet to be sent included."""
        self.last_ended = 0.0
        self.sent = [nan] * count
        self.first_token = [nan] * count
        self.last_token = [nan] * count
        self.ended = [nan] * count
        self.output_tokens = [0] * count
        self.cached_tokens = [0] * count
        self.status: list[str] = [""] * count
        """Empty while the request is open."""
        self.reason: list[str] = [""] * count
        self.http_status = [0] * count
        self.attempts = [0] * count
        self.endpoint: list[str] = [""] * count
        self.decided: list[Any] = []
        """The values of one `Decision` after the other."""
        self.events: list[dict[str, Any]] = []
        self.samples = Samples()

    def end(
        self,
        index: int,
        at: float,
        status: str,
        reason: str = "",
        http_status: int = 0,
        retry_after: float | None = None,
    ) -> bool:
        """Close a row; False when it was closed before, which leaves it as it is.

        `retry_after`: the seconds after which whoever refused would have it again.
        """
        if self.status[index]:
            return False
        self.status[index] = status
        self.reason[index] = reason
        self.http_status[index] = http_status
        self.ended[index] = at
        if at > self.last_ended:
            self.last_ended = at
        if self.when_lost is not None:
            self.when_lost(index, at, status, http_status, retry_after)
        self.num_open -= 1
        if not self.num_open:
            self._when_all_ended()
        return True

    def open_row(self) -> int:
        """Begin a row beyond those of the workload, for a request that is sent again; give its index."""
        self.num_open += 1
        for times in (self.sent, self.first_token, self.last_token, self.ended):
            times.append(nan)
        for counts in (self.output_tokens, self.cached_tokens, self.http_status, self.attempts):
            counts.append(0)
        for words in (self.status, self.reason, self.endpoint):
            words.append("")
        return len(self.sent) - 1

    def complete(self, index: int, at: float, output_tokens: int) -> None:
        """Close the row of a request whose last token reached its client."""
        self.status[index] = OK
        self.http_status[index] = OK_STATUS
        self.output_tokens[index] = output_tokens
        self.last_token[index] = self.ended[index] = at
        if at > self.last_ended:
            self.last_ended = at
        self.num_open -= 1
        if not self.num_open:
            self._when_all_ended()

    def event(self, at: float, kind: str, target: str, about: str, lasts: float | None = None) -> None:
        """Log a fault, a scaling, a restart."""
        self.events.append({"at": at, "kind": kind, "target": target, "lasts": lasts, "about": about})

    def columns(self) -> dict[str, list[Any]]:
        """Give the rows as `sim.experiment.record.REQUEST_COLUMNS` names them."""
        requests = self._workload.requests
        return {
            "index": [request.index for request in requests],
            "traffic_class": [request.traffic_class for request in requests],
            "tenant": [request.tenant for request in requests],
            "model": [request.model for request in requests],
            "session": [request.session for request in requests],
            "priority": [request.priority for request in requests],
            "scheduled": [request.scheduled for request in requests],
            "sent": self.sent,
            "first_token": self.first_token,
            "last_token": self.last_token,
            "ended": self.ended,
            "input_tokens": [request.input_tokens for request in requests],
            "output_tokens": self.output_tokens,
            "first_chunk_tokens": [1 if tokens else 0 for tokens in self.output_tokens],
            "chunks": self.output_tokens.copy(),
            "cached_tokens": self.cached_tokens,
            "status": self.status,
            "reason": self.reason,
            "http_status": self.http_status,
            "attempts": self.attempts,
            "endpoint": self.endpoint,
            "sends": [1 if sent >= 0 else 0 for sent in self.sent],
        }

    def write_into(self, record: RunRecord) -> None:
        """Hand everything over."""
        record.requests = self.columns()
        record.decisions = Decisions(self.decided)
        record.samples = self.samples.copy()
        record.events = sorted(self.events, key=lambda event: event["at"])
