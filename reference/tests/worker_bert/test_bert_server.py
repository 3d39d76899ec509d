"""The bert worker's server on a made-up model: its shapes, its refusals, batches, clients that leave, readiness."""

from __future__ import annotations

import asyncio
import base64
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from reference.router.signals import read_observation
from reference.worker.bert.layout import Layout


async def test_embeddings_have_openais_shape_and_count_tokens(running: Any, fake: Any) -> None:
    async with running(fake) as worker:
        await worker.until_ready()
        answer = await worker.post("/v1/embeddings", {"model": "m", "input": ["a bb", "ccc"]})

    assert answer.status == 200
    assert answer.json == {
        "object": "list",
        "model": "m",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [2.0, 3.0]},
            {"object": "embedding", "index": 1, "embedding": [1.0, 3.0]},
        ],
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    assert answer.headers["x-request-id"].startswith("req-")


async def test_base64_holds_the_same_numbers_as_little_endian_floats(running: Any, fake: Any) -> None:
    async with running(fake) as worker:
        await worker.until_ready()
        body = {"model": "m", "input": "a bb", "encoding_format": "base64"}
        answer = await worker.post("/v1/embeddings", body)

    packed = base64.b64decode(answer.json["data"][0]["embedding"])
    assert struct.unpack("<2f", packed) == (2.0, 3.0)


@pytest.mark.parametrize("given", [[5, 6], [[5, 6]]])
async def test_token_ids_are_taken_with_special_tokens_around_them(running: Any, fake: Any, given: Any) -> None:
    async with running(fake) as worker:
        await worker.until_ready()
        answer = await worker.post("/v1/embeddings", {"model": "m", "input": given})

    assert answer.json["data"][0]["embedding"] == [4.0, 14.0]


async def test_labels_come_with_a_score_each_best_first(running: Any, fake: Any) -> None:
    layout = Layout(Path("nowhere"), 64, labels=("short", "long"))
    async with running(fake, layout) as worker:
        await worker.until_ready()
        answer = await worker.post("/v1/classify", {"model": "m", "input": ["aaa bbb", "a"]})

    first, second = answer.json["data"]
    assert first == {
        "index": 0,
        "label": "long",
        "probs": [2.0, 6.0],
        "num_classes": 2,
        "scores": [{"label": "long", "score": 6.0}, {"label": "short", "score": 2.0}],
    }
    assert second["label"] == "short"
    assert answer.json["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


@pytest.mark.parametrize(
    ("path", "body", "status", "param", "code"),
    [
        ("/v1/embeddings", b"{", 400, None, "invalid_json"),
        ("/v1/embeddings", b"[1]", 400, None, "invalid_json"),
        ("/v1/embeddings", {"model": "m"}, 400, "input", "missing_required_parameter"),
        ("/v1/embeddings", {"model": "m", "input": []}, 400, "input", "invalid_value"),
        ("/v1/embeddings", {"model": "m", "input": [[]]}, 400, "input", "invalid_value"),
        ("/v1/embeddings", {"model": "m", "input": ["a", 3]}, 400, "input", "invalid_value"),
        ("/v1/embeddings", {"model": "m", "input": {"a": 1}}, 400, "input", "invalid_value"),
        ("/v1/embeddings", {"model": "m", "input": ["a"] * 2049}, 400, "input", "invalid_value"),
        ("/v1/embeddings", {"model": "m", "input": [1000]}, 400, "input", None),
        ("/v1/embeddings", {"model": "m", "input": "a " * 65}, 400, "input", "context_length_exceeded"),
        (
            "/v1/embeddings",
            {"model": "m", "input": "a", "encoding_format": "hex"},
            400,
            "encoding_format",
            "invalid_value",
        ),
        ("/v1/embeddings", {"model": "m", "input": "a", "dimensions": 3}, 400, "dimensions", None),
        ("/v1/embeddings", {"model": "x", "input": "a"}, 404, "model", "model_not_found"),
        ("/v1/classify", {"model": "m", "input": "a"}, 400, "model", "wrong_kind_of_model"),
    ],
)
async def test_every_refusal_is_openais_error_with_the_field_at_fault(
    running: Any, fake: Any, path: str, body: Any, status: int, param: str | None, code: str | None
) -> None:
    async with running(fake) as worker:
        await worker.until_ready()
        answer = await worker.post(path, body)

    assert answer.status == status
    assert answer.json["error"].keys() == {"message", "type", "param", "code"}
    assert (answer.json["error"]["param"], answer.json["error"]["code"]) == (param, code)


async def test_it_lives_while_it_loads_and_is_ready_only_after_a_forward_pass(running: Any, fake: Any) -> None:
    async with running(lambda: fake(seconds=0.2)) as worker:
        early = [await worker.get("/healthz"), await worker.get("/readyz"), await worker.get("/health")]
        refused = await worker.post("/v1/embeddings", {"model": "m", "input": "a"})
        await worker.until_ready()
        answer = await worker.post("/v1/embeddings", {"model": "m", "input": "a"})

    assert [answer.status for answer in early] == [200, 503, 503]
    assert (refused.status, refused.json["error"]["code"]) == (503, "not_ready")
    assert answer.status == 200


async def test_texts_that_come_together_are_computed_together(running: Any, fake: Any) -> None:
    model = fake()
    async with running(lambda: model, max_wait_seconds=0.05) as worker:
        await worker.until_ready()
        answers = await asyncio.gather(
            *(worker.post("/v1/embeddings", {"model": "m", "input": "a " * length}) for length in range(1, 9))
        )

    assert [answer.json["data"][0]["embedding"][0] for answer in answers] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [len(batch) for batch in model.batches] == [8]


async def test_the_event_loop_is_free_while_the_model_computes(running: Any, fake: Any) -> None:
    async with running(lambda: fake(seconds=0.3)) as worker:
        await worker.until_ready()
        asked = asyncio.create_task(worker.post("/v1/embeddings", {"model": "m", "input": "a"}))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        health = await worker.get("/healthz")
        took = time.monotonic() - began
        await asked

    assert health.status == 200
    assert took < 0.1


async def test_a_client_that_leaves_leaves_the_queue(running: Any, fake: Any) -> None:
    model = fake(seconds=0.2)
    async with running(lambda: model, max_batch_texts=1) as worker:
        await worker.until_ready()
        stays = asyncio.create_task(worker.post("/v1/embeddings", {"model": "m", "input": "first"}))
        await asyncio.sleep(0.05)
        left = await worker.post("/v1/embeddings", {"model": "m", "input": ["gone"] * 3}, leaves_after=0.02)
        waiting = len(worker.worker.engine.queue)
        after = await worker.post("/v1/embeddings", {"model": "m", "input": "last one"})
        first = await stays

    assert (left.status, waiting) == (0, 0)
    assert (first.status, after.status) == (200, 200)
    assert [[5]] in model.batches
    assert [[4]] not in model.batches


async def test_more_than_may_wait_is_refused_with_retry_after(running: Any, fake: Any) -> None:
    async with running(lambda: fake(seconds=0.2), max_batch_texts=1, max_queued_texts=2) as worker:
        await worker.until_ready()
        asked = [asyncio.create_task(worker.post("/v1/embeddings", {"model": "m", "input": "a"})) for _ in range(5)]
        answers = await asyncio.gather(*asked)

    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    assert all(answer.headers["retry-after"] == "1" for answer in refused)
    assert all(answer.json["error"]["code"] == "queue_full" for answer in refused)
    assert {answer.status for answer in answers} == {200, 429}


async def test_a_batch_that_fails_fails_its_own_requests_only(running: Any, fake: Any) -> None:
    model = fake()
    async with running(lambda: model) as worker:
        await worker.until_ready()
        model.fails = True
        with pytest.raises(RuntimeError, match="out of memory"):
            await worker.post("/v1/embeddings", {"model": "m", "input": ["a", "b"]})
        model.fails = False
        after = await worker.post("/v1/embeddings", {"model": "m", "input": "a"})
        page = (await worker.get("/metrics")).body.decode()

    assert after.status == 200
    assert 'bert_failed_batches_total{model_name="m"} 1.0' in page
    assert 'bert_requests_total{model_name="m",path="/v1/embeddings",status="500"} 1.0' in page


async def test_metrics_count_tokens_padding_batches_and_the_queue(running: Any, fake: Any) -> None:
    async with running(fake) as worker:
        await worker.until_ready()
        await worker.post("/v1/embeddings", {"model": "m", "input": ["a b c", "a"]})
        page = (await worker.get("/metrics")).body.decode()

    for line in (
        'bert_tokens_total{model_name="m"} 4.0',
        'bert_padding_tokens_total{model_name="m"} 2.0',
        'bert_batch_texts_count{model_name="m"} 1.0',
        'bert_queue_texts{model_name="m"} 0.0',
        'bert_num_requests_running{model_name="m"} 0.0',
    ):
        assert line in page


async def test_the_router_reads_its_load(running: Any, fake: Any) -> None:
    async with running(lambda: fake(seconds=0.5), max_batch_texts=1) as worker:
        await worker.until_ready()
        asked = [asyncio.create_task(worker.post("/v1/embeddings", {"model": "m", "input": "a"})) for _ in range(3)]
        while len(worker.worker.engine.queue) != 2:
            await asyncio.sleep(0.005)
        observation = read_observation((await worker.get("/metrics")).body, 0.0)
        await asyncio.gather(*asked)

    assert observation is not None
    assert (observation.running, observation.queue_depth) == (3, 2)
