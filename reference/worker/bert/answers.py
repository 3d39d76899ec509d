"""Answers of a bert worker: OpenAI's list of embeddings, and vLLM's list of classifications with a score a label."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from reference.worker.bert.model import Rows


def embeddings_answer(model: str, vectors: Sequence[Rows], num_tokens: int, *, as_base64: bool) -> bytes:
    """Return OpenAI's list of embeddings: numbers, or the little-endian float32 bytes that its client asks for."""
    data = [
        {"object": "embedding", "index": place, "embedding": _packed(vector) if as_base64 else vector}
        for place, vector in enumerate(vectors)
    ]
    answer = {"object": "list", "model": model, "data": data, "usage": _usage(num_tokens)}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def classify_answer(request_id: str, model: str, labels: Sequence[str], rows: Sequence[Rows], num_tokens: int) -> bytes:
    """Return vLLM's list of classifications, each with `scores` besides: every label with its own, best first."""
    answer = {
        "id": request_id,
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "data": [_classified(place, labels, row) for place, row in enumerate(rows)],
        "usage": _usage(num_tokens),
    }
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _classified(place: int, labels: Sequence[str], row: Rows) -> dict[str, Any]:
    order = sorted(range(len(labels)), key=lambda number: (-float(row[number]), number))
    return {
        "index": place,
        "label": labels[order[0]],
        "probs": row,
        "num_classes": len(labels),
        "scores": [{"label": labels[number], "score": row[number]} for number in order],
    }


def _packed(vector: Rows) -> str:
    return b64encode(vector.astype(np.dtype("<f4")).tobytes()).decode()


def _usage(num_tokens: int) -> dict[str, int]:
    return {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
