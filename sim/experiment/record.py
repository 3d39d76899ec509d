"""The run record: what every rung writes and every report reads.

Columns of `requests`: one row a request of the workload, in order of `index`; seconds since the run's zero, NaN when it
did not happen. See `REQUEST_COLUMNS`. Refuses to know which rung wrote it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sim.experiment.decisions import Decision
from sim.experiment.samples import Samples

REQUEST_COLUMNS: dict[str, type] = {
    "index": int,
    "traffic_class": str,
    "tenant": str,
    "model": str,
    "session": str,  # "" when none
    "priority": int,
    "scheduled": float,  # when the workload wants it sent
    "sent": float,  # when the client did send it
    "first_token": float,  # first non-empty token at the client
    "last_token": float,
    "ended": float,  # stream closed, refused or failed
    "input_tokens": int,
    "output_tokens": int,  # received
    "first_chunk_tokens": int,  # tokens in the first chunk
    "chunks": int,
    "cached_tokens": int,
    "status": str,  # ok | refused | failed | timed_out | cancelled
    "reason": str,  # why, in a word or two, "" when ok
    "http_status": int,  # 0 when the rung has none
    "attempts": int,  # dispatches by the router; 0 when unknown
    "endpoint": str,  # the one that answered, "" when unknown
    "sends": int,  # by the client: 1, and one more each time it sent it again; all but `sent` tell of the last one
}


@dataclass(slots=True)
class RunRecord:
    """One flight. Filled while flying, frozen by `write`, read back by `read` (see `sim.experiment.store`)."""

    scenario_name: str
    scenario_yaml: str
    """The scenario as flown, `--set` applied."""
    rung: str
    seed: int
    workload_hash: str
    warm_up_seconds: float
    duration_seconds: float
    """From zero to the end of the workload's window; latency counts requests scheduled in [warm_up, duration)."""
    requests: dict[str, list[Any]] = field(default_factory=dict)
    samples: Samples = field(default_factory=Samples)
    gaps: list[tuple[float, float, float]] = field(default_factory=list)
    """Inter-token latency, pooled: (gap seconds, tokens in the chunk that closed the gap, how many such gaps)."""
    decisions: Sequence[Decision] = ()
    events: list[dict[str, Any]] = field(default_factory=list)
    """Faults, scaling, restarts: {"at": seconds, "kind", "target", "lasts": seconds or None, "about"}."""
    steps: list[tuple[str, float, float, int, int, int]] = field(default_factory=list)
    """(replica, begin, end in seconds, equal steps, sequences that decode, prompt tokens computed), where a rung was
    asked for its steps; drawn in a timeline, not stored."""
    left_out: list[str] = field(default_factory=list)
    """What the scenario asks and this rung could not do, a sentence each."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else is worth keeping and deterministic: rows dropped by reason, cost per hour, engine counters."""
    diagnostics: dict[str, Any] = field(default_factory=dict)
    """What may differ between two runs of one seed (wall seconds, versions); kept out of the summary."""
