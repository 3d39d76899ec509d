"""BurstGPT: Timestamp (s), Model, Request tokens, Response tokens, Total tokens, Log Type; rows of 0/0 are failures."""

from __future__ import annotations

from sim.experiment.traces.rows import TraceLines, TraceRow, TraceRows, require_header, split

COLUMNS = ["Timestamp", "Model", "Request tokens", "Response tokens"]


def read_burstgpt(lines: TraceLines) -> TraceRows:
    """Read rows; failed ones (no response tokens) are dropped.

    Raises:
        InputError: with file, line and value.
    """
    found, rows = TraceRows(), iter(lines)
    header = require_header(lines, next(rows, None), COLUMNS)
    places = [header.index(column) for column in ("Timestamp", "Request tokens", "Response tokens")]
    for line in rows:
        if not line:
            continue
        found.num_read += 1
        columns = split(lines, line, header)
        stamp, request, response = (columns[place] for place in places)
        try:
            at = float(stamp)
        except ValueError:
            raise lines.error(f"Timestamp is {stamp!r}; expected seconds") from None
        input_tokens, output_tokens = lines.whole(request, "Request tokens"), lines.whole(response, "Response tokens")
        if input_tokens < 1 or output_tokens < 1:
            found.dropped["failed in the recording"] += 1
            continue
        found.rows.append(TraceRow(at, input_tokens, output_tokens))
    return found
