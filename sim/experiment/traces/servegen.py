"""ServeGen samples: arrival_s,input_tokens,output_tokens,image_tokens,client_id, drawn from published fits."""

from __future__ import annotations

from sim.experiment.traces.rows import TraceLines, TraceRows, require_header, split

COLUMNS = ["arrival_s", "input_tokens", "output_tokens"]
IMAGES = "image_tokens"


def read_servegen(lines: TraceLines) -> TraceRows:
    """Read rows; image tokens count as input.

    Raises:
        InputError: with file, line and value.
    """
    found, rows = TraceRows(), iter(lines)
    header = require_header(lines, next(rows, None), COLUMNS)
    when, text, generated = (header.index(column) for column in COLUMNS)
    images = header.index(IMAGES) if IMAGES in header else None
    for line in rows:
        if not line:
            continue
        found.num_read += 1
        columns = split(lines, line, header)
        seen = lines.whole(columns[images], IMAGES) if images is not None and columns[images] else 0
        found.add(
            lines.seconds(columns[when], "arrival_s"),
            lines.whole(columns[text], "input_tokens") + seen,
            lines.whole(columns[generated], "output_tokens"),
            empty="no tokens",
        )
    return found
