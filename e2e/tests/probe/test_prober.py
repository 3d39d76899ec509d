"""A probe gives way: to refusals, to errors, to others' traffic and to its budget."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

from aiohttp import web

from e2e.probe.engine_page import EnginePage
from e2e.probe.ladder import Ask, Budget, Stage
from e2e.probe.prober import Endpoint, Prober
from e2e.replay.prompts import Prompter, Wording

BUDGET = Budget(max_requests=200, max_tokens=10_000, max_seconds=30, max_streams=8)
STAGES = tuple(Stage(f"{streams} at a time", streams, (Ask(20, 3),) * 2 * streams) for streams in (1, 2, 4, 8))


class Server:
    """Answers in 10 ms with as many words as asked for; refuses, fails or slows down as told."""

    def __init__(self, *, room: int = 99, is_broken: bool = False, slower_after: int = 10**6, in_lumps: bool = False):
        self.room, self.is_broken, self.slower_after = room, is_broken, slower_after
        self.in_lumps = in_lumps
        self.in_flight = self.most_in_flight = 0
        self.prompts: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.prompts.append(body["messages"][0]["content"])
        if self.is_broken:
            return web.json_response({"error": {"message": "no luck"}}, status=500)
        if self.in_flight >= self.room:
            return web.json_response({"error": {"message": "full"}}, status=429, headers={"Retry-After": "0"})
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._stream(request, body["max_tokens"])
        finally:
            self.in_flight -= 1

    async def _stream(self, request: web.Request, tokens: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await asyncio.sleep(0.01 if len(self.prompts) <= self.slower_after else 0.3)
        for number in range(tokens):
            if number and not self.in_lumps:
                await asyncio.sleep(0.002)
            event = {"choices": [{"index": 0, "delta": {"content": "word "}}]}
            await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        usage = {"prompt_tokens": 20, "completion_tokens": tokens}
        await response.write(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response


@asynccontextmanager
async def probing(server: Server, budget: Budget = BUDGET, **more):
    application = web.Application()
    application.router.add_post("/v1/chat/completions", server.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        endpoint = Endpoint(url=url, model="m", prompter=Prompter(Wording(), 7), takes_exact_lengths=True, **more)
        yield Prober(endpoint, budget, pause_seconds=0.01)
    finally:
        await runner.cleanup()


async def test_all_is_asked_over_a_closed_loop_with_prompts_that_no_cache_knows() -> None:
    server = Server()
    async with probing(server) as prober:
        await prober.climb(STAGES)

    assert len(prober.answers) == 30 + len(STAGES)
    assert server.most_in_flight <= 8
    assert len({prompt.split()[0] for prompt in server.prompts}) == len(server.prompts)
    assert all(answer.sent < answer.first_token <= answer.last_token for answer in prober.answers)
    assert prober.notes == []


async def test_after_a_refusal_fewer_are_sent_at_a_time() -> None:
    server = Server(room=2)
    async with probing(server) as prober:
        await prober.climb(STAGES)

    assert server.most_in_flight == 2
    assert prober.notes == ["the endpoint answered 429 at 4 at a time; no more than 2 since"]
    # the stage of eight is left out
    assert len(server.prompts) <= 2 + 4 + 8 + len(STAGES)


async def test_an_endpoint_that_refuses_one_request_is_left_alone() -> None:
    server = Server(room=0)
    async with probing(server) as prober:
        await prober.climb(STAGES)

    assert len(server.prompts) == 1
    assert prober.answers == []


async def test_errors_end_it() -> None:
    server = Server(is_broken=True)
    async with probing(server) as prober:
        await prober.climb(STAGES)

    assert len(server.prompts) <= 4
    assert prober.notes[0] == "a request of 32 tokens failed: 500 no luck"
    assert "requests failed" in prober.notes[-1]


async def test_others_that_slow_a_request_alone_end_it() -> None:
    server = Server(slower_after=8)
    async with probing(server) as prober:
        await prober.climb(STAGES)

    assert "a request alone took over 3 times as long as at first" in prober.notes[-1]
    assert server.most_in_flight <= 2


async def test_others_that_the_page_shows_are_told() -> None:
    server = Server()
    page = EnginePage(in_flight=3, kv_tokens=None, num_engines=1)
    async with probing(server, look=lambda: page) as prober:
        await prober.climb(STAGES[:2])

    assert prober.notes == ["others' requests were running before: 1 at a time, 2 at a time"]


async def test_it_ends_when_its_requests_are_spent() -> None:
    server = Server()
    budget = Budget(max_requests=5, max_tokens=10_000, max_seconds=30, max_streams=8)
    async with probing(server, budget) as prober:
        await prober.climb(STAGES)

    assert len(server.prompts) == 5
    assert prober.notes == ["ended at 2 at a time: --max-requests 5 were sent"]


async def test_an_answer_that_comes_all_at_once_is_known_as_such() -> None:
    stage = (Stage("one", 1, (Ask(20, 9),)),)
    found = []
    for in_lumps in (False, True):
        async with probing(Server(in_lumps=in_lumps)) as prober:
            await prober.climb(stage)
        found.append([answer.num_instants for answer in prober.answers])

    assert min(found[0]) > 4
    assert max(found[1]) < 4
