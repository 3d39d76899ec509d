"""TensorRT-LLM's statistics of iterations: what `/metrics` of trtllm-serve gives away, as one list or a scrape a line.

Source: NVIDIA/TensorRT-LLM, `docs/source/commands/trtllm-serve` and `executor/types.h` (`enable_iter_perf_stats`).
`iterLatencyMS`; `inflightBatchingStats` with `numContextRequests`, `numGenRequests`, `numCtxTokens` and, since 1.3,
`numGenKvTokens`; `kvCacheStats` with `maxNumBlocks`, `usedNumBlocks`, `tokensPerBlock`. Under the overlap scheduler
`iterLatencyMS` spans about two iterations, so `hostStepTimeMS` (1.3, PR 14127) is taken where it is there.
"""

from __future__ import annotations

from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from sim.experiment.errors import InputError
from sim.fidelity.observed import Recording, Steps


def is_one(value: dict[str, Any]) -> bool:
    """Say whether a JSON object is such an iteration."""
    return "iterLatencyMS" in value or "inflightBatchingStats" in value


def read(values: list[dict[str, Any]], path: Path) -> Recording:
    """Read iterations in which something was computed.

    Raises:
        InputError: iterations lack what was in them, or their time.
    """
    rows = [_row(value, f"{path}: iteration {value.get('iter', number)}") for number, value in enumerate(values)]
    rows = [row for row in rows if row[1] > 0]
    table = np.array(rows, dtype=float).reshape(-1, 4)
    steps = Steps(seconds=table[:, 0], sequences=table[:, 1], prompt_tokens=table[:, 2], context_tokens=table[:, 3])
    cache: dict[str, Any] = next((value["kvCacheStats"] for value in values if value.get("kvCacheStats")), {})
    capacity = int(cache.get("maxNumBlocks") or 0) * int(cache.get("tokensPerBlock") or 0)
    by_host = all("hostStepTimeMS" in value for value in values)
    notes = [] if by_host else ["iterLatencyMS is twice a step under the overlap scheduler, TensorRT-LLM's default"]
    return Recording(
        what=f"{len(rows)} iterations of TensorRT-LLM",
        measured=steps,
        kv_tokens=capacity or None,
        notes=tuple(notes),
    )


def _row(value: dict[str, Any], where: str) -> tuple[float, float, float, float]:
    """Give seconds, sequences, prompt tokens, context tokens."""
    batch = value.get("inflightBatchingStats") or {}
    milliseconds = value.get("hostStepTimeMS", value.get("iterLatencyMS"))
    needed = {"hostStepTimeMS or iterLatencyMS": milliseconds} | {
        name: batch.get(name) for name in ("numContextRequests", "numGenRequests", "numCtxTokens")
    }
    for name, found in needed.items():
        if not isinstance(found, int | float) or found < 0:
            what = "is missing" if found is None else f"is {found!r}"
            raise InputError(f"{where}: {name} {what}; expected statistics of in-flight batching")
    assert milliseconds is not None
    sequences = batch["numContextRequests"] + batch["numGenRequests"]
    return milliseconds / 1000, sequences, batch["numCtxTokens"], batch.get("numGenKvTokens", nan)
