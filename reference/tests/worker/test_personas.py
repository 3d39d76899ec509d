"""Whose wire it is: the routes, metrics and errors of vLLM's server and of TensorRT-LLM's."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reference.router.signals import read_observation
from reference.wire.errors import normalised

VLLM = {
    "vllm:num_requests_running": "gauge",
    "vllm:num_requests_waiting": "gauge",
    "vllm:kv_cache_usage_perc": "gauge",
    "vllm:cache_config_info": "gauge",
    "vllm:prefix_cache_queries": "counter",
    "vllm:prefix_cache_hits": "counter",
    "vllm:num_preemptions": "counter",
    "vllm:prompt_tokens": "counter",
    "vllm:generation_tokens": "counter",
    "vllm:request_success": "counter",
    "vllm:time_to_first_token_seconds": "histogram",
    "vllm:inter_token_latency_seconds": "histogram",
    "vllm:e2e_request_latency_seconds": "histogram",
    "vllm:request_queue_time_seconds": "histogram",
    "vllm:request_prefill_time_seconds": "histogram",
    "vllm:request_decode_time_seconds": "histogram",
}
TRT = {
    "trtllm_num_requests_running": "gauge",
    "trtllm_num_requests_waiting": "gauge",
    "trtllm_kv_cache_utilization": "gauge",
    "trtllm_kv_cache_max_blocks": "gauge",
    "trtllm_kv_cache_free_blocks": "gauge",
    "trtllm_kv_cache_used_blocks": "gauge",
    "trtllm_request_success": "counter",
    "trtllm_time_to_first_token_seconds": "histogram",
    "trtllm_time_per_output_token_seconds": "histogram",
    "trtllm_e2e_request_latency_seconds": "histogram",
}
OURS = {"windtunnel_worker_tokens_per_second": "gauge", "windtunnel_worker_requests_per_second": "gauge"}


@pytest.mark.parametrize(
    ("persona", "page", "names"), [("vllm", "/metrics", VLLM), ("trt", "/prometheus/metrics", TRT)]
)
async def test_metrics_have_the_names_and_types_of_the_persona(emulated, persona, page, names) -> None:
    worker = await emulated(persona=persona)
    assert await worker.status() == 200
    long = asyncio.create_task(worker.status(max_tokens=3000))
    await asyncio.sleep(0.05)

    _, text = await worker.get(page)

    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {name: families[name].type for name in (names | OURS)} == names | OURS
    counts = {s.name: s.value for f in families.values() for s in f.samples if s.name.endswith(("_count", "_total"))}
    prefix = "vllm:" if persona == "vllm" else "trtllm_"
    assert counts[f"{prefix}e2e_request_latency_seconds_count"] == 1
    assert counts[f"{prefix}time_to_first_token_seconds_count"] == 2
    assert counts[f"{prefix}request_success_total"] == 1
    assert counts[f"{prefix}prompt_tokens_total"] == 10
    seen = read_observation(text.encode(), 0.0)
    assert seen is not None
    assert (seen.running, seen.queue_depth) == (1, 0)
    assert 0 < seen.kv_usage < 0.1
    long.cancel()


async def test_throughput_is_what_was_done_over_the_last_seconds(emulated) -> None:
    worker = await emulated(step_cost={"overhead": 0.001})
    assert await worker.status(max_tokens=600) == 200
    worker.worker.metrics.rates.sample(worker.worker.loop._now())

    _, text = await worker.get("/metrics")

    rates = {
        (sample.name, sample.labels.get("kind")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("windtunnel_worker")
    }
    assert rates["windtunnel_worker_tokens_per_second", "generation"] > 100
    assert rates["windtunnel_worker_requests_per_second", None] > 0


async def test_tensorrt_llms_iterations_are_taken_by_who_reads_them(emulated) -> None:
    worker = await emulated(persona="trt", perf_metrics=False)
    assert await worker.get("/metrics") == (200, [])
    assert await worker.status() == 200

    _, steps = await worker.get("/metrics")
    assert [step["iter"] for step in steps] == list(range(1, len(steps) + 1))
    assert steps[0]["numActiveRequests"] == 1
    assert sum(step["numCompletedRequests"] for step in steps) == 1
    assert steps[0]["kvCacheStats"]["maxNumBlocks"] == 2000
    assert read_observation(str(steps).replace("'", '"').encode(), 0.0) is not None
    assert await worker.get("/metrics") == (200, []), "which is not to say that there is no load"
    assert (await worker.get("/prometheus/metrics"))[0] == 404


@pytest.mark.parametrize(
    ("persona", "paths"),
    [
        ("vllm", ["/health", "/load", "/version", "/v1/models", "/metrics", "/healthz", "/readyz"]),
        ("trt", ["/health", "/version", "/v1/models", "/metrics", "/prometheus/metrics"]),
    ],
)
async def test_the_persona_has_its_routes_and_no_others(emulated, persona, paths) -> None:
    worker = await emulated(persona=persona)

    assert [(await worker.get(path))[0] for path in paths] == [200] * len(paths)
    missing, told = await worker.get("/load" if persona == "trt" else "/prometheus/metrics")
    assert missing == 404
    assert told == ({"detail": "Not Found"} if persona == "trt" else {**told, "error": {**told["error"], "code": 404}})
    async with worker.ask("/v1/embeddings", input="a b") as answer:
        assert answer.status == (200 if persona == "vllm" else 404)


async def test_prompts_are_counted_as_vllm_does(emulated) -> None:
    worker = await emulated()
    for body in ({"prompt": "a b c"}, {"messages": [{"role": "user", "content": "a b c"}]}):
        async with worker.client.post(f"{worker.url}/tokenize", json={"model": "tiny", **body}) as answer:
            told = await answer.json()
        assert (told["count"], told["max_model_len"], len(told["tokens"])) == (3, 4096, 3)


async def test_errors_are_told_as_vllm_tells_them(emulated) -> None:
    worker = await emulated()
    async with worker.ask(model="other") as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["type"], error["code"]) == (404, "NotFoundError", 404)
    async with worker.ask(messages=[]) as answer:
        raw = await answer.read()
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, 400)

    assert b'"type":"invalid_request_error"' in normalised(400, raw)


async def test_errors_are_told_as_tensorrt_llm_tells_them(emulated) -> None:
    worker = await emulated(persona="trt")
    assert await worker.status(model="other") == 200, "it has one model, and does not ask"
    async with worker.ask(messages=[]) as answer:
        assert (answer.status, list(await answer.json())) == (400, ["error"])
    await worker.inject(fault="error", status=503, count=1)
    async with worker.ask() as answer:
        raw = await answer.read()
        told = await answer.json()

    assert told == {
        "object": "error",
        "message": "an error on demand",
        "type": told["type"],
        "param": None,
        "code": 503,
    }
    assert b'"type":"server_error"' in normalised(503, raw)


@pytest.mark.parametrize(("persona", "least", "most"), [("vllm", 0.0, 0.5), ("trt", 0.5, 1.5)])
async def test_a_client_that_leaves_is_noticed_at_once_or_when_the_server_looks(
    emulated, until, persona, least, most
) -> None:
    worker = await emulated(persona=persona)
    asking = asyncio.create_task(worker.status(max_tokens=3000))
    await until(lambda: worker.num_running == 1)
    await asyncio.sleep(0.1)

    asking.cancel()

    assert least <= await until(lambda: worker.num_running == 0) <= most


async def test_texts_are_classified_each_time_alike(emulated) -> None:
    worker = await emulated(labels=["calm", "gusty", "stormy"])
    told = []
    for _ in range(2):
        async with worker.ask("/v1/classify", input=["a b", "c d e"]) as answer:
            assert answer.status == 200
            told.append(await answer.json())

    assert told[0]["data"] == told[1]["data"]
    assert [one["index"] for one in told[0]["data"]] == [0, 1]
    for one in told[0]["data"]:
        assert one["num_classes"] == len(one["probs"]) == 3
        assert abs(sum(one["probs"]) - 1) < 1e-9
        assert one["scores"][0] == {"label": one["label"], "score": max(one["probs"])}
    assert told[0]["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
