"""Embeddings and classifications: a prefill for each text, all in the batch at once, and vectors made of the words."""

from __future__ import annotations

import time
from math import exp
from typing import Any

import orjson

from reference.engine import Rejected, Sequence
from reference.wire.errors import ApiError
from reference.worker.emulated.answers import EMBEDDING_SIZE, embedding, embeddings_answer
from reference.worker.emulated.engine_loop import EngineLoop
from reference.worker.emulated.requests import read_texts


async def prefill(loop: EngineLoop, name: str, texts: list[list[int]]) -> None:
    """Let the engine read some texts.

    Raises:
        ApiError: one of them is too long.
    """
    names = [f"{name}-{place}" for place in range(len(texts))]
    waiting = []
    try:
        for each, text in zip(names, texts, strict=True):
            tokens = loop.submit(Sequence(each, max(1, len(text)), 1))
            if isinstance(tokens, Rejected):
                raise ApiError(tokens.status, tokens.reason, code="context_length_exceeded")
            waiting.append(tokens)
        for tokens in waiting:
            await tokens.get()
    finally:
        for each in names:
            loop.abort(each)


async def embed(loop: EngineLoop, name: str, model: str, body: dict[str, Any], *, may_be_base64: bool) -> bytes:
    """Answer `/v1/embeddings`.

    Raises:
        ApiError: 400, a text is too long or none.
    """
    texts = read_texts(body)
    await prefill(loop, name, texts)
    as_base64 = may_be_base64 and body.get("encoding_format") == "base64"
    dimensions = int(body.get("dimensions") or EMBEDDING_SIZE)
    vectors = [embedding(text) for text in texts]
    return embeddings_answer(model, vectors, sum(map(len, texts)), as_base64=as_base64, dimensions=dimensions)


async def classify(loop: EngineLoop, name: str, model: str, body: dict[str, Any], labels: tuple[str, ...]) -> bytes:
    """Answer `/v1/classify` in vLLM's shape; each label's score, best first, stands besides it.

    Raises:
        ApiError: 400, a text is too long or none.
    """
    texts = read_texts(body)
    await prefill(loop, name, texts)
    count = sum(map(len, texts))
    answer = {
        "id": name,
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "data": [_classified(place, labels, shares(text, len(labels))) for place, text in enumerate(texts)],
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }
    return orjson.dumps(answer)


def shares(tokens: list[int], num: int) -> list[float]:
    """Return a probability for each of `num` labels: they add up to 1, and depend on the words only."""
    vector = embedding(tokens)
    weights = [exp(4 * sum(vector[place::num])) for place in range(num)]
    return [weight / sum(weights) for weight in weights]


def _classified(place: int, labels: tuple[str, ...], probs: list[float]) -> dict[str, Any]:
    order = sorted(range(len(labels)), key=lambda number: (-probs[number], number))
    return {
        "index": place,
        "label": labels[order[0]],
        "probs": probs,
        "num_classes": len(labels),
        "scores": [{"label": labels[number], "score": probs[number]} for number in order],
    }
