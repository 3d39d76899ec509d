"""What a replay brought back, and how it goes into a run record."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import nan
from typing import Any

from e2e.replay.rows import TICK, Row
from sim.experiment.record import RunRecord
from sim.experiment.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """One row for each request of the workload, in its order, and the account of the sender."""

    workload: Workload
    rows: tuple[Row, ...]
    zero: float
    """The run's zero, in seconds on the monotonic clock of this machine."""
    wall_seconds: float
    cpu_seconds: float
    """Spent by the sender in flight, all its processes together."""
    precedence: str = "usual"
    """`real-time` where the sender was allowed to run before everything else."""
    num_senders: int = 1
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def gaps(self) -> list[tuple[float, float, float]]:
        """Inter-token latency, pooled: (gap seconds, tokens in the chunk that closed it, how many)."""
        pooled: Counter[tuple[int, float]] = Counter()
        for row in self.rows:
            for ticks, tokens in zip(row.gap_ticks, tokens_by_chunk(row)[1:], strict=True):
                pooled[ticks, tokens] += 1
        return [(ticks * TICK, tokens, float(count)) for (ticks, tokens), count in sorted(pooled.items())]


def tokens_by_chunk(row: Row) -> list[float]:
    """Return how many tokens each chunk held: one each if usage says so, else by their share of the text."""
    sizes = row.chunk_sizes
    output = row.usage[1] if row.usage else len(sizes)
    if output == len(sizes) or not output:
        return [1.0] * len(sizes)
    total = sum(sizes)
    return [max(0.0, float(round(output * size / total))) for size in sizes]


def fill(record: RunRecord, result: ReplayResult) -> None:
    """Put the requests, the gaps and the account of the workload into a record."""
    record.requests = _columns(result)
    record.gaps = result.gaps
    workload = result.workload
    record.facts |= {
        "rows_read": workload.rows_read,
        "dropped": dict(workload.dropped),
        "notes": list(workload.notes),
        **result.facts,
    }
    record.diagnostics |= {
        "wall_seconds": result.wall_seconds,
        "sender_cpu_seconds": result.cpu_seconds,
        "num_senders": result.num_senders,
        "sender_precedence": result.precedence,
    }


def _columns(result: ReplayResult) -> dict[str, list[Any]]:
    requests, rows = result.workload.requests, result.rows
    counted = [_counted(row) for row in rows]
    return {
        "index": [request.index for request in requests],
        "traffic_class": [request.traffic_class for request in requests],
        "tenant": [request.tenant for request in requests],
        "model": [request.model for request in requests],
        "session": [request.session for request in requests],
        "priority": [request.priority for request in requests],
        "scheduled": [request.scheduled for request in requests],
        "sent": [row.sent for row in rows],
        "first_token": [_or_nan(row.first_token) for row in rows],
        "last_token": [_or_nan(row.last_token) for row in rows],
        "ended": [_or_nan(row.ended) for row in rows],
        "input_tokens": [
            (row.usage[0] if row.usage else 0) or request.input_tokens
            for row, request in zip(rows, requests, strict=True)
        ],
        "output_tokens": [output for output, _ in counted],
        "first_chunk_tokens": [first for _, first in counted],
        "chunks": [len(row.chunk_sizes) for row in rows],
        "cached_tokens": [row.usage[2] if row.usage else 0 for row in rows],
        "status": [row.status for row in rows],
        "reason": [row.reason for row in rows],
        "http_status": [row.http_status for row in rows],
        "attempts": [row.attempts for row in rows],
        "endpoint": [row.endpoint for row in rows],
        "sends": [row.sends for row in rows],
    }


def _counted(row: Row) -> tuple[int, int]:
    """Return the output tokens received, and those in the first chunk."""
    if not row.chunk_sizes:
        return 0, 0
    output = row.usage[1] if row.usage else len(row.chunk_sizes)
    return output, max(1, int(tokens_by_chunk(row)[0]))


def _or_nan(value: float | None) -> float:
    return nan if value is None else value
