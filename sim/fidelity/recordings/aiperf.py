"""AIPerf's records of requests, `profile_export.jsonl`: one JSON object a line.

Source: docs/tutorials/working-with-profile-exports.md of ai-dynamo/aiperf (13992db, 2026). `metadata` has
`request_start_ns` (wall clock), `was_cancelled`, `benchmark_phase`; `metrics` has values with units, among them
`input_sequence_length`, `output_sequence_length`, `time_to_first_token`, `request_latency`; `error` is null or says
why. TPOT is theirs: (request latency - TTFT) / (output tokens - 1).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sim.experiment.errors import InputError
from sim.fidelity.observed import Recording
from sim.fidelity.recordings.request_rows import RequestRow, observed, tpot_of

SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0}
START: Final = "request_start_ns"
NEEDED: Final = ("input_sequence_length", "output_sequence_length", "time_to_first_token", "request_latency")


def is_one(value: dict[str, Any]) -> bool:
    """Say whether a JSON object is such a record."""
    return isinstance(value.get("metadata"), dict) and START in value["metadata"]


def read(values: list[dict[str, Any]], path: Path) -> Recording:
    """Read the records of a file.

    Raises:
        InputError: a record lacks what is needed, as those of answers that were not streamed do.
    """
    rows, failed = [], 0
    starts = [start for value in values if isinstance(start := (value.get("metadata") or {}).get(START), int)]
    zero = min(starts, default=0)
    for number, value in enumerate(values, 1):
        metadata = value.get("metadata") or {}
        if metadata.get("benchmark_phase", "profiling") != "profiling":
            continue
        if value.get("error") or metadata.get("was_cancelled"):
            failed += 1
            continue
        rows.append(_row(value, zero, f"{path}:{number}"))
    notes = (f"{failed} requests failed or were cancelled and are left out",) if failed else ()
    return Recording(what=f"{len(rows)} requests of AIPerf", measured=observed(rows, path), notes=notes)


def _row(value: dict[str, Any], zero: int, where: str) -> RequestRow:
    metrics = value.get("metrics") or {}
    if missing := [name for name in NEEDED if "value" not in (metrics.get(name) or {})]:
        raise InputError(f"{where}: has no {', '.join(missing)}; expected records of streamed answers (--streaming)")
    given, got, ttft, latency = (_number(metrics[name], f"{where}: {name}") for name in NEEDED)
    start = value["metadata"].get(START)
    if not isinstance(start, int):
        raise InputError(f"{where}: {START} is {start!r}; expected nanoseconds")
    return RequestRow(
        # whole nanoseconds since 1970 do not fit into a float
        sent=(start - zero) / 1e9,
        input_tokens=given,
        output_tokens=got,
        ttft=ttft,
        tpot=tpot_of(latency, ttft, got),
    )


def _number(metric: dict[str, Any], where: str) -> float:
    """Give a metric in seconds, or in tokens."""
    value, unit = metric["value"], str(metric.get("unit", "tokens"))
    if not isinstance(value, int | float) or not (unit in SECONDS or unit == "tokens"):
        raise InputError(f"{where} is {value!r} {unit}; expected a number of tokens, or of {', '.join(SECONDS)}")
    return float(value) * SECONDS.get(unit, 1.0)
