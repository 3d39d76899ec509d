"""Azure's LLM inference traces: TIMESTAMP,ContextTokens,GeneratedTokens, naive local time, seven fractional digits."""

from __future__ import annotations

from calendar import timegm

from sim.experiment.traces.rows import TraceLines, TraceRows, require_header, split

COLUMNS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]


def read_azure(lines: TraceLines) -> TraceRows:
    """Read rows; those without input or output tokens are dropped.

    Raises:
        InputError: with file, line and value.
    """
    found, rows = TraceRows(), iter(lines)
    header = require_header(lines, next(rows, None), COLUMNS)
    when, context, generated = (header.index(column) for column in COLUMNS)
    midnights: dict[str, int] = {}
    for line in rows:
        if not line:
            continue
        found.num_read += 1
        columns = split(lines, line, header)
        found.add(
            _seconds(lines, columns[when], midnights),
            lines.whole(columns[context], "ContextTokens"),
            lines.whole(columns[generated], "GeneratedTokens"),
            empty="no tokens",
        )
    return found


def _seconds(lines: TraceLines, stamp: str, midnights: dict[str, int]) -> float:
    """Read `2023-11-16 18:15:46.6805900`; datetime holds six digits only, so the parts are read apart."""
    try:
        day, clock = stamp.split(" ")
        if day not in midnights:
            year, month, date = (int(part) for part in day.split("-"))
            midnights[day] = timegm((year, month, date, 0, 0, 0))
        hour, minute, second = clock.split(":")
        passed = 3600 * int(hour) + 60 * int(minute) + float(second)
    except ValueError:
        passed = -1.0
    if not 0 <= passed < 86_401:
        raise lines.error(f"TIMESTAMP is {stamp!r}; expected such as 2023-11-16 18:15:46.6805900")
    return midnights[day] + passed
