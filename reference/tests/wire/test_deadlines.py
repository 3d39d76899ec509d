"""Exchanges are abandoned when their time is up, each at its own, and not one that has ended."""

import asyncio

import looptime
from hypothesis import given
from hypothesis import strategies as st

from reference.wire.deadlines import Deadlines
from reference.wire.relay import Exchange


@given(
    flights=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 40)), min_size=1, max_size=12),
    seconds=st.integers(1, 20),
)
def test_who_takes_too_long_is_abandoned_in_time_and_nobody_else(flights: list[tuple[int, int]], seconds: int) -> None:
    abandoned: dict[int, float] = {}

    async def fly(number: int, begins: int, lasts: int, deadlines: Deadlines) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(begins)
        exchange = Exchange()
        exchange.on_abandon = lambda: abandoned.setdefault(number, loop.time() - began)
        began = loop.time()
        deadlines.begin(exchange, loop)
        # away from the deadline, where either would be right
        await asyncio.sleep(lasts + 0.5)
        deadlines.end(exchange)

    async def all_of_them() -> None:
        deadlines = Deadlines(seconds)
        await asyncio.gather(*(fly(number, *flight, deadlines) for number, flight in enumerate(flights)))

    loop = looptime.new_event_loop(start=0.0)
    try:
        loop.run_until_complete(all_of_them())
    finally:
        loop.close()

    late = {number for number, (_, lasts) in enumerate(flights) if lasts + 0.5 > seconds}
    assert abandoned.keys() == late
    assert all(seconds <= taken < seconds + 0.01 for taken in abandoned.values())
