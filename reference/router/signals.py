"""What a model server's metrics page says of its load: vLLM's and TensorRT-LLM's names, as text or as JSON.

TensorRT-LLM has two pages. `/prometheus/metrics` is a page like any other; `/metrics` is a JSON list of its last
iterations, and to read it is to take them: two readers steal from each other, and `[]` says that there is nothing new,
not that there is no load.
"""

from __future__ import annotations

from math import isfinite
from typing import Any, NamedTuple

import orjson

from reference.policy.view import Observation

PAGES = ("/prometheus/metrics", "/metrics")
"""In this order: what only looks comes before what takes."""


class _Gauge(NamedTuple):
    field: str
    is_share: bool = False
    """Of several engines behind one page counts add up, and of shares the mean is the whole's."""


_GAUGES = {
    b"vllm:num_requests_running": _Gauge("running"),
    b"trtllm_num_requests_running": _Gauge("running"),
    b"vllm:num_requests_waiting": _Gauge("queue_depth"),
    b"trtllm_num_requests_waiting": _Gauge("queue_depth"),
    b"te_queue_size": _Gauge("queue_depth"),
    b"bert_num_requests_running": _Gauge("running"),
    b"bert_queue_texts": _Gauge("queue_depth"),
    b"vllm:kv_cache_usage_perc": _Gauge("kv_usage", True),
    b"vllm:gpu_cache_usage_perc": _Gauge("kv_usage", True),
    b"trtllm_kv_cache_utilization": _Gauge("kv_usage", True),
}
"""Name → field of an observation; vLLM's older name for KV cache usage, other embedding servers and our own too."""


def read_observation(page: bytes, now: float) -> Observation | None:
    """Read what a page says; None when it says nothing of load, which is not to say that there is none."""
    if page.lstrip()[:1] in (b"[", b"{"):
        return _from_iterations(page, now)
    found: dict[str, list[float]] = {}
    for line in page.splitlines():
        gauge = _GAUGES.get(line.split(b"{", 1)[0].split(b" ", 1)[0])
        value = _number(line) if gauge is not None else None
        if gauge is not None and value is not None:
            found.setdefault(gauge.field, []).append(value)
    if not found:
        return None
    usages = found.get("kv_usage", [0.0])
    return Observation(
        now, int(sum(found.get("running", []))), int(sum(found.get("queue_depth", []))), sum(usages) / len(usages)
    )


def _from_iterations(page: bytes, now: float) -> Observation | None:
    """Read TensorRT-LLM's list of iterations; the last one is how things are."""
    try:
        iterations = orjson.loads(page)
    except orjson.JSONDecodeError:
        return None
    last = iterations[-1] if isinstance(iterations, list) and iterations else None
    if not isinstance(last, dict) or "numActiveRequests" not in last:
        return None
    blocks = last.get("kvCacheStats")
    return Observation(now, _count(last, "numActiveRequests"), _count(last, "numQueuedRequests"), _usage(blocks))


def _usage(blocks: Any) -> float:
    if not isinstance(blocks, dict):
        return 0.0
    return _count(blocks, "usedNumBlocks") / max(1, _count(blocks, "maxNumBlocks"))


def _count(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    return max(0, value) if isinstance(value, int) else 0


def _number(line: bytes) -> float | None:
    """Return the value at the end of a line; None when it is none, as of a page that was cut off."""
    try:
        value = float(line.rsplit(b" ", 1)[-1])
    except ValueError:
        return None
    return value if isfinite(value) and value >= 0 else None
