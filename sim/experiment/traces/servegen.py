"""ServeGen samples: arrival_s,input_tokens,output_tokens,image_tokens,client_id, drawn from published fits."""

from __future__ import annotations

from sim.experiment.traces.rows import TraceLines, TraceRow, TraceRows, require_header, split

COLUMNS = ["arrival_s", "input_tokens", "output_tokens"]


def read_servegen(lines: TraceLines) -> TraceRows:
    """Read rows; image tokens count as input.

    Raises:
        InputError: with file, line and value.
    """
    found, rows = TraceRows(), iter(lines)
    header = require_header(lines, next(rows, None), COLUMNS)
    for line in rows:
        if not line:
            continue
        found.num_read += 1
        named = dict(zip(header, split(lines, line, header), strict=True))
        try:
            at = float(named["arrival_s"])
        except ValueError:
            raise lines.error(f"arrival_s is {named['arrival_s']!r}; expected seconds") from None
        images = lines.whole(named["image_tokens"], "image_tokens") if named.get("image_tokens") else 0
        input_tokens = lines.whole(named["input_tokens"], "input_tokens") + images
        output_tokens = lines.whole(named["output_tokens"], "output_tokens")
        if input_tokens < 1 or output_tokens < 1:
            found.dropped["no tokens"] += 1
            continue
        found.rows.append(TraceRow(at, input_tokens, output_tokens))
    return found
