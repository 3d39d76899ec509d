"""What the sender writes of each request: its instants, its chunks and how it ended, a line of JSON each."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import orjson

from e2e.replay.sse import Stream

OK, REFUSED, FAILED, TIMED_OUT, CANCELLED = "ok", "refused", "failed", "timed_out", "cancelled"

TICK = 1e-5
"""Gaps are written in ticks of ten microseconds: finer than any clock of a loaded client."""


@dataclass(slots=True)
class Row:
    """One request as its client saw it; seconds since the run's zero. Open until `close`, whole after `land`."""

    index: int
    sent: float
    first_token: float | None = None
    last_token: float | None = None
    ended: float | None = None
    status: str = ""
    reason: str = ""
    http_status: int = 0
    attempts: int = 0
    endpoint: str = ""
    sends: int = 1
    """By the client; all but `sent` tell of the last one."""
    retry_after: float | None = None
    """Seconds that a refusal said."""
    usage: tuple[int, int, int] | None = None
    gap_ticks: list[int] = field(default_factory=list)
    """Between successive chunks."""
    chunk_sizes: list[int] = field(default_factory=list)
    """Characters of text, by chunk."""

    def close(self, status: str, reason: str) -> None:
        """Say how it ended; the first to say so is right."""
        if not self.status:
            self.status, self.reason = status, reason

    def routed(self, decision: str | list[str] | None) -> None:
        """Read the router's decision from its header, `endpoint=NAME; attempt=N; …`; other servers send none."""
        for part in decision.split(";") if isinstance(decision, str) else ():
            name, _, value = part.strip().partition("=")
            if name == "endpoint":
                self.endpoint = value
            elif name == "attempt" and value.isdecimal():
                self.attempts = int(value)

    def land(self, stream: Stream, now: float, zero: float) -> None:
        """Take over what the stream told, and end now."""
        self.ended = now - zero
        self.usage = stream.usage
        times = stream.chunk_times
        if times:
            self.first_token, self.last_token = times[0] - zero, times[-1] - zero
            self.gap_ticks = [round((later - sooner) / TICK) for sooner, later in pairwise(times)]
            self.chunk_sizes = stream.chunk_sizes

    def line(self) -> bytes:
        """Return the row as a line of JSON."""
        return orjson.dumps(self, option=orjson.OPT_APPEND_NEWLINE)


def read_row(line: bytes) -> Row:
    """Read a line back."""
    given: dict[str, Any] = orjson.loads(line)
    usage = given.pop("usage")
    return Row(**given, usage=tuple(usage) if usage else None)
