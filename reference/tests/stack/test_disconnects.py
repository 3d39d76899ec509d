"""A client that leaves frees the engine's seat at once, whatever phase its request is in."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import ClientSession, ClientTimeout

LIMIT_SECONDS = 0.5
"""It takes a millisecond or two; the rest is for a busy machine. The bound of 50 ms is measured by `tox -e bench`."""


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_while_its_answer_is_made_frees_its_seat(build, until, stream) -> None:
    chain = await build()
    asking = asyncio.create_task(whole(chain, stream=stream, max_tokens=2000))
    await until(lambda: chain.num_running == 1)

    asking.cancel()

    assert await until(lambda: chain.num_running == 0) < LIMIT_SECONDS
    assert chain.routing.desks["tiny"].pool.num_in_flight == 0


async def test_a_client_that_leaves_during_prefill_frees_its_seat(build, until) -> None:
    chain = await build(worker={"step_cost": {"overhead": 0.02}})
    long = [{"role": "user", "content": "word " * 3000}]
    asking = asyncio.create_task(whole(chain, stream=True, messages=long))
    await until(lambda: chain.num_running == 1)

    asking.cancel()

    assert await until(lambda: chain.num_running == 0) < LIMIT_SECONDS


async def test_a_client_that_leaves_the_queue_is_not_dispatched(build, until) -> None:
    chain = await build(pool={"max_in_flight_per_endpoint": 1})
    pool = chain.routing.desks["tiny"].pool
    first = asyncio.create_task(whole(chain, stream=True, max_tokens=2000))
    await until(lambda: chain.num_running == 1)
    second = asyncio.create_task(whole(chain, stream=True))
    await until(lambda: pool.num_queued == 1)

    second.cancel()

    assert await until(lambda: pool.num_queued == 0) < LIMIT_SECONDS
    first.cancel()
    await until(lambda: chain.num_running == 0)
    assert pool.counters.cancelled == 2


async def test_a_client_that_leaves_before_the_worker_has_said_anything_is_noticed(build, until) -> None:
    chain = await build()
    pool = chain.routing.desks["tiny"].pool
    await chain.fault(0, first_byte_delay_seconds=30.0)
    asking = asyncio.create_task(whole(chain, stream=True))
    await until(lambda: pool.num_in_flight == 1)

    asking.cancel()

    assert await until(lambda: pool.num_in_flight == 0) < LIMIT_SECONDS


async def test_seats_do_not_leak_over_many_clients_that_leave(build, until) -> None:
    chain = await build()
    for patience in [0.002, 0.01, 0.03] * 7:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(whole(chain, stream=True, max_tokens=3000), patience)

    await until(lambda: chain.num_running == 0)
    pool = chain.routing.desks["tiny"].pool
    assert (pool.num_in_flight, pool.num_queued) == (0, 0)
    async with chain.ask() as answer:
        assert answer.status == 200


async def whole(chain, **body) -> bytes:
    """Ask on a connection of its own, which closes when this is cancelled."""
    async with (
        ClientSession(timeout=ClientTimeout(30)) as client,
        client.post(f"{chain.gateway}/v1/chat/completions", json=chain.body(**body), headers=chain.headers()) as answer,
    ):
        return await answer.read()
