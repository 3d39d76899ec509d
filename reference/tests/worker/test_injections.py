"""Faults that are injected: each does what it says to as many requests as it says, and is over when it says."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.worker.emulated.injections import NO_TROUBLE, Injection, Injections


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    lasts=st.floats(0.1, 100.0),
    count=st.integers(1, 10) | st.none(),
    steps=st.lists(st.floats(0.0, 10.0), max_size=40),
)
def test_a_fault_meets_no_more_requests_and_no_later_ones_than_it_may(lasts, count, steps) -> None:
    clock = Clock()
    injections = Injections(clock)
    injections.add(Injection(fault="error", lasts=lasts, count=count))
    met = 0
    for step in steps:
        clock.now += step
        in_time = clock.now < lasts and (count is None or met < count)
        assert (injections.take().error is not None) is in_time
        met += in_time
    assert bool(injections.under_way()) is (clock.now < lasts and (count is None or met < count))


def test_faults_add_up_and_can_be_ended() -> None:
    injections = Injections(Clock())
    for injection in (
        Injection(fault="delay", seconds=1.0),
        Injection(fault="delay", seconds=2.0),
        Injection(fault="wrong_usage", tokens=5),
    ):
        injections.add(injection)

    trouble = injections.take()
    assert (trouble.delay, trouble.extra_usage, trouble.error) == (3.0, 5, None)
    injections.clear()
    assert injections.take() is NO_TROUBLE


async def test_so_many_requests_fail_and_then_no_more(emulated) -> None:
    worker = await emulated()
    await worker.inject(fault="error", status=503, retry_after=7, count=2)

    async with worker.ask() as answer:
        assert (answer.status, answer.headers["retry-after"]) == (503, "7")
    assert [await worker.status() for _ in range(3)] == [503, 200, 200]


@pytest.mark.parametrize("tokens", [0, 3])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_connection_is_reset(emulated, until, stream, tokens) -> None:
    worker = await emulated()
    await worker.inject(fault="reset", tokens=tokens, count=1)

    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await worker.status(stream=stream)
    await until(lambda: worker.num_running == 0)
    assert await worker.status() == 200


async def test_a_reset_is_a_reset_and_no_end(emulated) -> None:
    worker = await emulated()
    await worker.inject(fault="reset", tokens=0, count=1)
    raw = json.dumps(worker.body()).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(worker.url.rpartition(":")[2]))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(raw)}\r\n\r\n"
    writer.write(head.encode() + raw)

    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_breaks_off(emulated, stream) -> None:
    worker = await emulated()
    await worker.inject(fault="die", tokens=3, count=1)

    async with worker.ask(stream=stream) as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_a_stream_ends_without_its_end(emulated) -> None:
    worker = await emulated()
    await worker.inject(fault="end", tokens=3, count=1)

    async with worker.ask(stream=True) as answer:
        text = await answer.text()

    assert "[DONE]" not in text
    assert text.count('"content":') == 1 + 3


async def test_usage_is_wrong_by_as_much_as_asked(emulated) -> None:
    worker = await emulated()
    await worker.inject(fault="wrong_usage", tokens=50, count=1)

    counted = []
    for _ in range(2):
        async with worker.ask(stream=True, stream_options={"include_usage": True}) as answer:
            events = [json.loads(line[6:]) for line in (await answer.text()).splitlines() if line.startswith("data: {")]
        counted.append(events[-1]["usage"]["completion_tokens"])

    assert counted == [58, 8]


@pytest.mark.parametrize(
    ("fault", "least"), [({"fault": "delay", "seconds": 0.3}, 0.3), ({"fault": "drip", "seconds": 0.05}, 0.4)]
)
async def test_an_answer_comes_late_or_slowly(emulated, fault, least) -> None:
    worker = await emulated()
    await worker.inject(**fault, count=1)
    loop = asyncio.get_running_loop()
    began = loop.time()

    assert await worker.status(stream=True) == 200

    assert least <= loop.time() - began < least + 1.0


async def test_a_request_hangs_with_its_seat_until_the_fault_is_over_or_the_client_gone(emulated, until) -> None:
    worker = await emulated()
    await worker.inject(fault="hang", lasts=0.4)
    hanging = asyncio.create_task(worker.status(max_tokens=3000, stream=True))
    served = asyncio.create_task(worker.status())
    await until(lambda: worker.num_running >= 1)
    await asyncio.sleep(0.1)
    hanging.cancel()
    await until(lambda: worker.num_running == 0)

    assert not served.done()
    assert await served == 200


@pytest.mark.parametrize("fault", [{"fault": "stall"}, {"fault": "slow", "factor": 50.0}])
async def test_the_engine_stands_still_or_goes_slowly_and_recovers(emulated, fault) -> None:
    worker = await emulated()
    loop = asyncio.get_running_loop()
    await worker.inject(**fault, lasts=0.5)
    began = loop.time()
    assert await worker.status() == 200
    in_trouble = loop.time() - began
    await asyncio.sleep(max(0.0, 0.6 - in_trouble))
    began = loop.time()
    assert await worker.status() == 200

    assert in_trouble > 0.3
    assert loop.time() - began < 0.3


async def test_connections_are_refused_for_a_while_and_the_control_port_still_answers(emulated) -> None:
    worker = await emulated()
    await worker.inject(fault="refuse", lasts=0.3)
    async with aiohttp.ClientSession() as stranger:
        with pytest.raises(aiohttp.ClientConnectorError):
            await stranger.get(f"{worker.url}/health")
        assert await worker.inject(fault="delay", count=1) != []
        await asyncio.sleep(0.5)
        async with stranger.get(f"{worker.url}/health") as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"fault": "gremlins"}, "fault"),
        ({"fault": "error", "lasts": 1e9}, "lasts"),
        ({"fault": "error", "count": 0}, "count"),
        ({"fault": "error", "status": 200}, "status"),
        ({"fault": "error", "often": True}, "often"),
        ({}, "fault"),
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused(emulated, given, param) -> None:
    worker = await emulated()
    async with worker.client.post(f"{worker.control}/control/inject", json=given) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["param"] == param
    async with worker.client.get(f"{worker.control}/control/nothing") as answer:
        assert answer.status == 404


async def test_control_is_nowhere_unless_it_is_wished(emulated) -> None:
    worker = await emulated(control_port=0)

    async with worker.client.post(f"{worker.url}/control/crash", json={}) as answer:
        assert answer.status == 404
