"""The requests of a run record as arrays, and the times between their instants. Refuses to judge them.

Shapes are (requests,), in the order of the workload; seconds; NaN where it did not happen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.experiment.record import RunRecord

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Words = npt.NDArray[np.str_]
Places = npt.NDArray[np.intp]

OK = "ok"
REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """What befell each request. Made once from a record, never changed; `where` gives some of them."""

    index: Floats
    traffic_class: Words
    tenant: Words
    status: Words
    reason: Words
    endpoint: Words
    scheduled: Floats
    sent: Floats
    first_token: Floats
    last_token: Floats
    ended: Floats
    input_tokens: Floats
    output_tokens: Floats
    first_chunk_tokens: Floats
    chunks: Floats
    cached_tokens: Floats

    def __len__(self) -> int:
        return len(self.index)

    def where(self, held: Bools | Places) -> Requests:
        """Return the requests that a mask holds, or those at some places, in the order of the places."""
        return Requests(**{name: getattr(self, name)[held] for name in self.__slots__})

    @property
    def is_ok(self) -> Bools:
        """Which ones succeeded."""
        is_ok: Bools = self.status == OK
        return is_ok

    @property
    def send_lag(self) -> Floats:
        """Sent − scheduled: how late the load generator itself was."""
        return self.sent - self.scheduled

    @property
    def ttft(self) -> Floats:
        """First non-empty token − scheduled: what a user of an open-loop service waits."""
        return self.first_token - self.scheduled

    @property
    def ttft_from_sent(self) -> Floats:
        """First non-empty token − sent."""
        return self.first_token - self.sent

    @property
    def e2e(self) -> Floats:
        """Ended − scheduled."""
        return self.ended - self.scheduled

    @property
    def e2e_from_sent(self) -> Floats:
        """Ended − sent."""
        return self.ended - self.sent

    @property
    def tpot(self) -> Floats:
        """(Last token − first token) / (output tokens − tokens in the first chunk); NaN when nothing followed it."""
        followed = self.output_tokens - self.first_chunk_tokens
        return (self.last_token - self.first_token) / np.where(followed > 0, followed, np.nan)


def requests_of(record: RunRecord) -> Requests:
    """Read the columns of a record."""
    columns = record.requests
    words = ("traffic_class", "tenant", "status", "reason", "endpoint")
    read: dict[str, Any] = {
        name: _words(columns, name) if name in words else _floats(columns, name) for name in Requests.__slots__
    }
    return Requests(**read)


def _words(columns: Mapping[str, list[Any]], name: str) -> Words:
    return np.asarray(columns.get(name, []), dtype=np.str_)


def _floats(columns: Mapping[str, list[Any]], name: str) -> Floats:
    # None becomes NaN on the way
    return np.asarray(columns.get(name, []), dtype=np.float64)
