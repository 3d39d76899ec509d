"""The desk carries out what its pool decides, on virtual time: waiting, retrying, giving up, forgetting who left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import looptime

from reference.policy.pool import Action, Dispatch, Fail, Outcome, Pool, PoolSettings, Refuse
from reference.policy.routing.registry import build_routing
from reference.policy.view import RequestView
from reference.router.desk import Desk


def flown(work: Callable[[Desk, list[Action]], Awaitable[Any]], **settings: Any) -> Any:
    """Run a coroutine over a desk with two endpoints on a virtual clock."""
    loop = looptime.new_event_loop(start=0.0)

    async def run() -> Any:
        log: list[Action] = []
        pool = Pool(PoolSettings(**settings), build_routing("least_in_flight"), lambda: 0.0)
        desk = Desk(pool, loop.time, lambda _, action: log.append(action))
        desk.add_endpoint("a")
        desk.add_endpoint("b")
        return await work(desk, log)

    try:
        return loop.run_until_complete(run())
    finally:
        loop.close()


def view(name: str, **fields: Any) -> RequestView:
    return RequestView(name, "tiny", asyncio.get_running_loop().time(), 10, **fields)


def answer_after(seconds: float, outcome: Outcome = Outcome.OK) -> Callable[[Dispatch], Awaitable[Outcome]]:
    async def forward(_: Dispatch) -> Outcome:
        await asyncio.sleep(seconds)
        return outcome

    return forward


def test_a_request_waits_for_its_turn() -> None:
    async def work(desk: Desk, log: list[Action]) -> float:
        await asyncio.gather(*(desk.serve(view(f"r{n}"), answer_after(1.0)) for n in range(6)))
        assert [action.request.request_id for action in log] == [f"r{n}" for n in range(6)]
        return asyncio.get_running_loop().time()

    assert flown(work, max_in_flight_per_endpoint=1) == 3.0


def test_a_request_that_waits_too_long_is_refused_at_its_deadline() -> None:
    async def work(desk: Desk, _: list[Action]) -> tuple[Any, float]:
        busy = [asyncio.create_task(desk.serve(view(f"r{n}"), answer_after(60.0))) for n in range(2)]
        await asyncio.sleep(0)
        ended = await desk.serve(view("late"), answer_after(1.0))
        at = asyncio.get_running_loop().time()
        await asyncio.gather(*busy)
        return ended, at

    ended, at = flown(work, max_in_flight_per_endpoint=1, max_wait_seconds=2.5)

    assert isinstance(ended, Refuse)
    assert (ended.rejected.status, at) == (503, 2.5)


def test_a_failed_attempt_is_made_again_elsewhere() -> None:
    async def work(desk: Desk, log: list[Action]) -> Any:
        seen: list[str] = []

        async def forward(dispatch: Dispatch) -> Outcome:
            seen.append(dispatch.endpoint)
            return Outcome.FAILED if len(seen) == 1 else Outcome.OK

        ended = await desk.serve(view("r"), forward)
        return seen, ended

    seen, ended = flown(work, retry_min_per_second=5.0)

    assert sorted(seen) == ["a", "b"]
    assert isinstance(ended, Dispatch)
    assert ended.attempt == 2


def test_a_request_that_has_shown_a_token_is_not_tried_again() -> None:
    async def work(desk: Desk, _: list[Action]) -> Any:
        async def forward(_: Dispatch) -> Outcome:
            desk.first_token("r")
            return Outcome.FAILED

        return await desk.serve(view("r"), forward)

    ended = flown(work)

    assert isinstance(ended, Fail)
    assert ended.attempts == 1


def test_a_client_that_leaves_makes_room_for_the_next_one() -> None:
    async def work(desk: Desk, _: list[Action]) -> float:
        leaving = [asyncio.create_task(desk.serve(view(f"r{n}"), answer_after(60.0))) for n in range(2)]
        waiting = asyncio.create_task(desk.serve(view("next"), answer_after(1.0)))
        await asyncio.sleep(5.0)
        leaving[0].cancel()
        ended = await waiting
        assert isinstance(ended, Dispatch)
        at = asyncio.get_running_loop().time()
        leaving[1].cancel()
        await asyncio.wait(leaving)
        assert (desk.pool.num_in_flight, desk.pool.num_queued) == (0, 0)
        return at

    assert flown(work, max_in_flight_per_endpoint=1) == 6.0


def test_those_who_wait_are_refused_when_the_last_endpoint_goes() -> None:
    async def work(desk: Desk, _: list[Action]) -> Any:
        busy = [asyncio.create_task(desk.serve(view(f"r{n}"), answer_after(5.0))) for n in range(2)]
        waiting = asyncio.create_task(desk.serve(view("next"), answer_after(1.0)))
        await asyncio.sleep(1.0)
        desk.remove_endpoint("a")
        desk.remove_endpoint("b")
        ended = await waiting
        await asyncio.gather(*busy)
        return ended

    ended = flown(work, max_in_flight_per_endpoint=1)

    assert isinstance(ended, Refuse)
    assert ended.rejected.status == 503
