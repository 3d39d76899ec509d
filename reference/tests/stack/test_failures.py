"""What clients see when a worker fails: another worker's answer, or a typed error; never an ending that was made up."""

from __future__ import annotations

import asyncio
import json

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse


def events_of(text: str) -> list[str]:
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]


@pytest.mark.parametrize("fault", ["die_after_tokens", "end_after_tokens"])
async def test_a_stream_that_breaks_off_ends_in_a_typed_error(build, fault) -> None:
    chain = await build()
    await chain.fault(0, **{fault: 3})

    async with chain.ask(stream=True) as answer:
        events = events_of(await answer.text())

    assert answer.status == 200
    assert json.loads(events[-1])["error"]["code"] == "upstream_lost"
    assert json.loads(events[-1])["error"]["type"] == "server_error"
    assert "[DONE]" not in events
    assert not any(choice["finish_reason"] for event in events[:-1] for choice in json.loads(event)["choices"])
    assert sum(1 for event in events[:-1] if json.loads(event)["choices"][0]["delta"].get("content")) == 3


async def test_a_failure_before_the_first_byte_is_tried_on_another_worker(build) -> None:
    chain = await build(2, pool={"retry_min_per_second": 10.0})
    await chain.fault(0, error_share=1.0)
    decisions = []

    for _ in range(6):
        async with chain.ask(stream=True) as answer:
            assert answer.status == 200
            assert events_of(await answer.text())[-1] == "[DONE]"
            decisions.append(answer.headers["x-windtunnel-decision"])

    assert all(decision.startswith("endpoint=vllm-1; attempt=") for decision in decisions)
    assert any("attempt=2" in decision for decision in decisions)


async def test_the_last_endpoint_is_never_closed_off(build) -> None:
    chain = await build(pool={"retry_budget_ratio": 0.0})
    await chain.fault(0, error_share=1.0)
    for _ in range(8):
        async with chain.ask() as answer:
            assert answer.status == 500
            assert (await answer.json())["error"]["type"] == "server_error"

    await chain.fault(0, error_share=0.0)

    async with chain.ask() as answer:
        assert answer.status == 200


async def test_an_error_of_the_client_is_neither_retried_nor_held_against_the_worker(build) -> None:
    chain = await build(2)
    for _ in range(6):
        async with chain.ask(messages=[{"role": "user", "content": "word " * 5000}]) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]["code"] == "context_length_exceeded"

    pool = chain.routing.desks["tiny"].pool
    assert (pool.counters.retries, pool.counters.ejections, pool.counters.client_errors) == (0, 0, 6)


async def test_a_worker_that_falls_silent_is_given_up_and_its_waiting_requests_are_answered_elsewhere(build) -> None:
    chain = await build(2, pool={"retry_min_per_second": 10.0})
    await chain.fault(0, is_partitioned=True)

    asked = [asyncio.create_task(status_of(chain)) for _ in range(4)]

    assert await asyncio.wait_for(asyncio.gather(*asked), 5) == [200] * 4
    assert [endpoint.name for endpoint in chain.routing.desks["tiny"].pool.endpoints] == ["vllm-1"]
    await chain.fault(0, is_partitioned=False)


async def test_an_empty_pool_answers_503_and_a_full_queue_429_with_retry_after(build, until) -> None:
    chain = await build(pool={"max_in_flight_per_endpoint": 1, "max_queued": 0})
    long = asyncio.create_task(status_of(chain, max_tokens=3000))
    await until(lambda: chain.num_running == 1)

    async with chain.ask() as answer:
        assert answer.status == 429
        assert (await answer.json())["error"]["code"] == "queue_full"
        assert int(answer.headers["retry-after"]) >= 1

    long.cancel()
    await until(lambda: chain.num_running == 0)
    chain.routing.desks["tiny"].remove_endpoint("vllm-0")
    async with chain.ask() as answer:
        assert answer.status == 503
        assert (await answer.json())["error"]["code"] == "no_endpoint"


async def test_what_a_worker_says_of_its_errors_is_kept(build) -> None:
    strange = worker_of(
        lambda _: Response(
            '{"object":"error","message":"too busy","type":"overloaded_error","code":429}',
            429,
            {"retry-after": "7"},
            "application/json",
        )
    )
    chain = await build(strange=strange)

    async with chain.ask() as answer:
        assert answer.status == 429
        assert answer.headers["retry-after"] == "7"
        error = (await answer.json())["error"]
    assert error == {"message": "too busy", "type": "overloaded_error", "param": None, "code": None}


async def test_the_key_stays_at_the_gateway_and_the_trace_goes_through(build) -> None:
    seen: list[dict[str, str]] = []

    def note(request: Request) -> Response:
        seen.append(dict(request.headers))
        return Response(b"{}", media_type="application/json")

    chain = await build(strange=worker_of(note))
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async with chain.ask(headers={"x_request_id": "mine-1", "traceparent": trace, "cookie": "a=b"}) as answer:
        assert answer.headers.getall("x-request-id") == ["mine-1"]

    assert seen[0]["x-request-id"] == "mine-1"
    assert seen[0]["traceparent"].startswith(trace[:36])
    assert seen[0]["traceparent"] != trace
    assert not {"authorization", "cookie"} & seen[0].keys()


async def test_the_bytes_of_a_stream_pass_unchanged(build) -> None:
    told = [
        b": a comment\n\n",
        b"event: message\r\nda",
        b'ta: {"choices":[{"delta":{"content":"data: [DONE]"}}]}\r\n\r\n',
        b"id: 7\nretry: 10\ndata: [DO",
        b"NE]\n\n",
    ]

    async def pieces():
        for piece in told:
            yield piece
            await asyncio.sleep(0.005)

    chain = await build(strange=worker_of(lambda _: StreamingResponse(pieces(), media_type="text/event-stream")))

    async with chain.ask(stream=True) as answer:
        assert await answer.read() == b"".join(told)


async def test_an_answer_that_is_cut_short_is_an_error_and_not_half_an_answer(build) -> None:
    async def half():
        yield b'{"choices": [{"mess'
        raise ConnectionResetError("cut short")

    chain = await build(strange=worker_of(lambda _: StreamingResponse(half(), media_type="application/json")))

    async with chain.ask() as answer:
        assert answer.status == 502
        assert (await answer.json())["error"]["code"] == "upstream_unreachable"


def worker_of(answer) -> FastAPI:
    """A worker that answers every completion in one way."""
    application = FastAPI()

    @application.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        return answer(request)

    @application.get("/health")
    async def health() -> Response:
        return Response()

    return application


async def status_of(chain, **body) -> int:
    async with chain.ask(**body) as answer:
        await answer.read()
        return answer.status
