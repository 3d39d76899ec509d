"""TensorRT-LLM's wire behind gateway and router: its load is seen by either page, and its errors are OpenAI's."""

from __future__ import annotations

import asyncio

import pytest


@pytest.mark.parametrize("perf_metrics", [True, False])
async def test_the_load_of_tensorrt_llm_is_seen(build, until, perf_metrics: bool) -> None:
    chain = await build(
        worker={"persona": "trt", "perf_metrics": perf_metrics}, router={"scrape_interval_seconds": 0.05}
    )
    pool = chain.routing.desks["tiny"].pool
    long = asyncio.create_task(status_of(chain, max_tokens=3000))

    await until(lambda: pool.endpoints[0].observed.running == 1)
    assert 0 < pool.endpoints[0].observed.kv_usage < 0.1
    long.cancel()


async def test_its_errors_are_openais(build) -> None:
    chain = await build(worker={"persona": "trt"})
    async with chain.ask(messages=[{"role": "user", "content": "word " * 5000}]) as answer:
        assert answer.status == 400
        error = (await answer.json())["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "context_length_exceeded")

    await chain.fault(0, error_share=1.0)
    async with chain.ask() as answer:
        assert answer.status == 500
        error = (await answer.json())["error"]
    assert error == {"message": "an error on demand", "type": "server_error", "param": None, "code": None}


async def status_of(chain, **body) -> int:
    async with chain.ask(**body) as answer:
        await answer.read()
        return answer.status
