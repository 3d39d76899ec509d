"""Mooncake's traces: JSON lines with timestamp (ms), input_length, output_length and hash_ids of 512-token blocks.

Equal leading ids are a shared prefix, so a block becomes a prompt segment whose key is its id.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

from sim.experiment.traces.rows import Prompt, TraceLines, TraceRows
from sim.experiment.workload import PromptSegment

BLOCK_TOKENS = 512
TICK_MILLISECONDS = 3000
"""The conversation trace's time stamps are multiples of this, give or take a little: nine gaps in ten are zero."""

TICK_JITTER_MILLISECONDS = 20


def read_mooncake(lines: TraceLines) -> TraceRows:
    """Read rows; one whose blocks do not cover its input is dropped.

    Raises:
        InputError: with file, line and value.
    """
    found = TraceRows()
    num_on_tick = 0
    whole_blocks: dict[int, PromptSegment] = {}
    for line in lines:
        if not line:
            continue
        found.num_read += 1
        row = _object(lines, line)
        stamp, length, ids = row["timestamp"], row["input_length"], row["hash_ids"]
        num_on_tick += min(stamp % TICK_MILLISECONDS, -stamp % TICK_MILLISECONDS) <= TICK_JITTER_MILLISECONDS
        if len(ids) * BLOCK_TOKENS < length:
            found.dropped["blocks do not cover the input"] += 1
            continue
        prompt = _segments(ids, length, whole_blocks)
        found.add(stamp / 1000, length, row["output_length"], prompt, empty="no tokens")
    if found.num_read > 1 and num_on_tick == found.num_read:
        found.tick_seconds = TICK_MILLISECONDS / 1000
    return found


def _segments(ids: list[int], length: int, whole_blocks: dict[int, PromptSegment]) -> Prompt:
    num_whole, rest = divmod(length, BLOCK_TOKENS)
    segments = []
    for block in ids[:num_whole]:
        segment = whole_blocks.get(block)
        if segment is None:
            segment = whole_blocks[block] = PromptSegment(block, BLOCK_TOKENS)
        segments.append(segment)
    if rest:
        segments.append(PromptSegment(ids[num_whole], rest))
    return tuple(segments)


def _object(lines: TraceLines, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise lines.error(f"{line[:60]!r} is not a JSON object ({error.msg})") from None
    if not isinstance(row, dict):
        raise lines.error(f"{line[:60]!r} is not a JSON object")
    stamp = row.get("timestamp")
    if isinstance(stamp, bool) or not isinstance(stamp, int | float) or not isfinite(stamp) or stamp < 0:
        raise lines.error(f"timestamp is {stamp!r}; expected milliseconds")
    for key in ("input_length", "output_length"):
        if type(row.get(key)) is not int or row[key] < 0:
            raise lines.error(f"{key} is {row.get(key)!r}; expected a whole number of tokens")
    ids = row.get("hash_ids")
    if not isinstance(ids, list) or set(map(type, ids)) - {int}:
        raise lines.error(f"hash_ids is {str(ids)[:60]}; expected a list of whole numbers")
    typed: dict[str, Any] = row
    return typed
