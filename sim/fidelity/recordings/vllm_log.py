"""vLLM's own log: a line every ten seconds with throughput, running requests and KV cache usage.

Source: `vllm/v1/metrics/loggers.py` (LoggingStatLogger.log; "Engine 000: Avg prompt throughput: %.1f tokens/s, Avg
generation throughput: %.1f tokens/s, Running: %d reqs, Waiting: %d reqs, GPU KV cache usage: %.1f%%, Prefix cache hit
rate: %.1f%%", vLLM 0.8 to 0.19; more parts may stand between) and `vllm/v1/core/kv_cache_utils.py` ("GPU KV cache
size: 123,456 tokens"). vLLM 0.6 wrote Pending for Waiting and "# GPU blocks: N". Rates are means since the line before;
the counts are of the last step before the line.
"""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from sim.experiment.errors import InputError
from sim.fidelity.observed import Intervals, Recording

LINE: Final = re.compile(
    r"(?:Engine (?P<engine>\d+): )?Avg prompt throughput: (?P<prompt>[\d.]+) tokens/s, "
    r"Avg generation throughput: (?P<generation>[\d.]+) tokens/s, Running: (?P<running>\d+) reqs?"
    r".*?KV cache usage: (?P<usage>[\d.]+)%(?:.*?[Pp]refix cache hit rate: (?P<hits>[\d.]+)%)?"
)
TOKENS: Final = re.compile(r"KV cache size: ([\d,]+) tokens")
BLOCKS: Final = re.compile(r"# (?:GPU|CPU|cuda|cpu) blocks: (\d+)|num_gpu_blocks is: (\d+)")
BLOCK_SIZE: Final = 16
"""Tokens: vLLM's default, for versions that log blocks and no tokens."""
MUCH_CACHED: Final = 5.0
"""Per cent of prompt tokens found in the prefix cache."""


def is_one(text: str) -> bool:
    """Say whether a text is such a log."""
    return LINE.search(text) is not None


def read(text: str, path: Path) -> Recording:
    """Read the intervals between consecutive lines of the same engine.

    Raises:
        InputError: the engine decodes several tokens a step, so that throughput does not tell steps.
    """
    if re.search(r"SpecDecoding metrics: .*Accepted throughput: (?!0\.00)", text):
        raise InputError(f"{path}: the engine speculates, so tokens do not tell steps; expected a log without")
    kv_tokens, notes = _capacity(text)
    lines: dict[str, list[re.Match[str]]] = defaultdict(list)
    for found in LINE.finditer(text):
        lines[found["engine"] or ""].append(found)
    pairs = [pair for of_engine in lines.values() for pair in pairwise(of_engine)]
    if max(float(found["hits"] or 0) for of_engine in lines.values() for found in of_engine) > MUCH_CACHED:
        notes.append(
            "prefixes were cached; some versions count them as prompt throughput, and then a prompt token seems cheaper"
        )

    def column(name: str, end: int = 1) -> np.ndarray:
        return np.array([float(pair[end][name]) for pair in pairs])

    intervals = Intervals(
        running_before=column("running", 0),
        running_after=column("running"),
        prompt_rate=column("prompt"),
        generation_rate=column("generation"),
        context_before=column("usage", 0) / 100 * (kv_tokens or np.nan),
        context_after=column("usage") / 100 * (kv_tokens or np.nan),
    )
    engines = f" of {len(lines)} engines" if len(lines) > 1 else ""
    what = f"{len(pairs)} intervals{engines} of a vLLM log"
    return Recording(what=what, measured=intervals, kv_tokens=kv_tokens, notes=tuple(notes))


def _capacity(text: str) -> tuple[int | None, list[str]]:
    if tokens := TOKENS.search(text):
        return int(tokens[1].replace(",", "")), []
    if blocks := BLOCKS.search(text):
        count = int(blocks[1] or blocks[2])
        return count * BLOCK_SIZE, [f"the log tells {count} KV blocks; taken as of {BLOCK_SIZE} tokens, vLLM's default"]
    return None, []
