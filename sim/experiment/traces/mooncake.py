"""Mooncake's traces: JSON lines with timestamp (ms), input_length, output_length and hash_ids of 512-token blocks.

Equal leading ids are a shared prefix, so a block becomes a prompt segment whose key is its id.
"""

from __future__ import annotations

import json
from typing import Any

from sim.experiment.traces.rows import TraceLines, TraceRow, TraceRows
from sim.experiment.workload import PromptSegment

BLOCK_TOKENS = 512
TICK_MILLISECONDS = 3000
"""The conversation trace's timestamps are multiples of this, give or take a little: nine gaps in ten are zero."""

TICK_JITTER_MILLISECONDS = 20


def read_mooncake(lines: TraceLines) -> TraceRows:
    """Read rows; one whose blocks do not cover its input is dropped.

    Raises:
        InputError: with file, line and value.
    """
    found = TraceRows()
    on_tick = 0
    for line in lines:
        if not line:
            continue
        found.num_read += 1
        row = _object(lines, line)
        length, output, ids = row["input_length"], row["output_length"], row["hash_ids"]
        if min(row["timestamp"] % TICK_MILLISECONDS, -row["timestamp"] % TICK_MILLISECONDS) <= TICK_JITTER_MILLISECONDS:
            on_tick += 1
        if length < 1 or output < 1:
            found.dropped["no tokens"] += 1
        elif len(ids) * BLOCK_TOKENS < length:
            found.dropped["blocks do not cover the input"] += 1
        else:
            found.rows.append(TraceRow(row["timestamp"] / 1000, length, output, _segments(ids, length)))
    if found.num_read > 1 and on_tick == found.num_read:
        found.tick_seconds = TICK_MILLISECONDS / 1000
    return found


def _segments(ids: list[int], length: int) -> tuple[PromptSegment, ...]:
    whole, rest = divmod(length, BLOCK_TOKENS)
    segments = [PromptSegment(block, BLOCK_TOKENS) for block in ids[:whole]]
    if rest:
        segments.append(PromptSegment(ids[whole], rest))
    return tuple(segments)


def _object(lines: TraceLines, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise lines.error(f"{line[:60]!r} is not a JSON object ({error.msg})") from None
    wanted = {"timestamp": int | float, "input_length": int, "output_length": int, "hash_ids": list}
    for key, kind in wanted.items():
        if not isinstance(row, dict) or not isinstance(row.get(key), kind):
            value = row.get(key) if isinstance(row, dict) else row
            raise lines.error(f"{key} is {value!r}; expected {'a list' if kind is list else 'a number'}")
    if not all(isinstance(block, int) for block in row["hash_ids"]):
        raise lines.error(f"hash_ids is {row['hash_ids'][:5]!r}…; expected whole numbers")
    typed: dict[str, Any] = row
    return typed
