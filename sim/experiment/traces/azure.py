"""Azure's LLM inference traces: TIMESTAMP,ContextTokens,GeneratedTokens, naive local time, seven fractional digits."""

from __future__ import annotations

from calendar import timegm

from sim.experiment.traces.rows import TraceLines, TraceRow, TraceRows, require_header, split

COLUMNS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]


def read_azure(lines: TraceLines) -> TraceRows:
    """Read rows; those without input or output tokens are dropped.

    Raises:
        InputError: with file, line and value.
    """
    found, rows = TraceRows(), iter(lines)
    header = require_header(lines, next(rows, None), COLUMNS)
    for line in rows:
        if not line:
            continue
        found.num_read += 1
        stamp, context, generated = split(lines, line, header)[:3]
        input_tokens, output_tokens = lines.whole(context, "ContextTokens"), lines.whole(generated, "GeneratedTokens")
        if input_tokens < 1 or output_tokens < 1:
            found.dropped["no tokens"] += 1
            continue
        found.rows.append(TraceRow(_seconds(lines, stamp), input_tokens, output_tokens))
    return found


def _seconds(lines: TraceLines, stamp: str) -> float:
    """Read `2023-11-16 18:15:46.6805900`; datetime holds six digits only, so the parts are read apart."""
    try:
        day, _, clock = stamp.partition(" ")
        year, month, date = (int(part) for part in day.split("-"))
        hour, minute, second = clock.split(":")
        whole, _, fraction = second.partition(".")
        seconds = timegm((year, month, date, int(hour), int(minute), int(whole)))
        return seconds + (int(fraction) / 10 ** len(fraction) if fraction else 0.0)
    except ValueError:
        raise lines.error(f"TIMESTAMP is {stamp!r}; expected such as 2023-11-16 18:15:46.6805900") from None
