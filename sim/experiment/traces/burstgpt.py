"""BurstGPT: Timestamp (s), Model, Request tokens, Response tokens, Total tokens, Log Type; rows of 0/0 are failures.

Later files add a Session ID, which is kept.
"""

from __future__ import annotations

from sim.experiment.traces.rows import TraceLines, TraceRows, require_header, split

COLUMNS = ["Timestamp", "Request tokens", "Response tokens"]
SESSION = "Session ID"


def read_burstgpt(lines: TraceLines) -> TraceRows:
    """Read rows; failed ones (no response tokens) are dropped.

    Raises:
        InputError: with file, line and value.
    """
    found, rows = TraceRows(), iter(lines)
    header = require_header(lines, next(rows, None), COLUMNS)
    when, request, response = (header.index(column) for column in COLUMNS)
    session = header.index(SESSION) if SESSION in header else None
    for line in rows:
        if not line:
            continue
        found.num_read += 1
        columns = split(lines, line, header)
        found.add(
            lines.seconds(columns[when], "Timestamp"),
            lines.whole(columns[request], "Request tokens"),
            lines.whole(columns[response], "Response tokens"),
            session="" if session is None else columns[session].strip(),
            empty="failed in the recording",
        )
    return found
