"""What a router finds out by asking: health, and load from whichever page a model server has, with the age of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from reference.policy.pool import Pool, PoolSettings
from reference.policy.routing.registry import build_routing
from reference.policy.view import Observation
from reference.router.desk import Desk
from reference.router.metrics import RouterMetrics
from reference.router.scraping import Watch
from reference.router.settings import EndpointBlock


class ModelServer:
    """A model server whose pages a test sets; None is 404."""

    def __init__(self) -> None:
        self.pages: dict[str, str | None] = {"/prometheus/metrics": None, "/metrics": None}
        self.asked: list[str] = []
        self.is_well = True

    def application(self) -> web.Application:
        application = web.Application()
        for path in (*self.pages, "/health"):
            application.router.add_get(path, self._answer)
        return application

    async def _answer(self, request: web.Request) -> web.Response:
        if request.path == "/health":
            return web.Response(status=200 if self.is_well else 503)
        self.asked.append(request.path)
        page = self.pages[request.path]
        return web.Response(status=404) if page is None else web.Response(text=page)


class Scraped:
    """A model server, a watch of it, and the pool that hears what the watch finds."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.server = ModelServer()
        self.pool = Pool(PoolSettings(), build_routing("least_in_flight"), lambda: 0.0)
        self.session = session
        self.tasks: list[asyncio.Task[None]] = []

    def watch(self, url: str) -> None:
        desk = Desk(self.pool, asyncio.get_running_loop().time)
        watch = Watch(EndpointBlock(name="a", url=url), desk, self.session, set())
        self.tasks = [asyncio.create_task(watch.look_at_health(0.02)), asyncio.create_task(watch.scrape(0.01))]

    @property
    def seen(self) -> Observation:
        return self.pool.endpoints[0].observed

    async def scrapes(self, number: int) -> None:
        """Wait until so many more pages have been read, and what they told is known."""
        wanted = len(self.server.asked) + number
        await until(lambda: len(self.server.asked) > wanted)


@pytest.fixture
async def scraped() -> AsyncIterator[Scraped]:
    async with aiohttp.ClientSession() as session:
        found = Scraped(session)
        async with TestServer(found.server.application()) as server:
            found.watch(f"http://127.0.0.1:{server.port}")
            await until(lambda: bool(found.pool.endpoints))
            yield found
            for task in found.tasks:
                task.cancel()


async def until(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not holds():
        assert loop.time() < end, "it never came to hold"
        await asyncio.sleep(0.002)


async def test_the_page_that_only_looks_comes_before_the_one_that_takes(scraped: Scraped) -> None:
    scraped.server.pages = {"/prometheus/metrics": "trtllm_num_requests_running 4\n", "/metrics": "[]"}
    await until(lambda: scraped.seen.running == 4)
    scraped.server.asked.clear()
    await scraped.scrapes(5)

    assert set(scraped.server.asked) == {"/prometheus/metrics"}


async def test_iterations_are_read_where_there_is_nothing_else_and_no_news_ages(scraped: Scraped) -> None:
    scraped.server.pages["/metrics"] = '[{"numActiveRequests": 5, "numQueuedRequests": 3}]'
    await until(lambda: scraped.seen.running == 5)
    scraped.server.pages["/metrics"] = "[]"
    await scraped.scrapes(2)
    last = scraped.seen
    await scraped.scrapes(5)

    assert scraped.seen == last == (last.observed_at, 5, 3, 0.0)
    page = {
        sample.name: sample.value
        for metric in RouterMetrics({"llama": scraped.pool}).registry.collect()
        for sample in metric.samples
        if sample.labels.get("signal", "running") == "running"
    }
    assert page["windtunnel_router_observed"] == 5
    assert 0.01 < page["windtunnel_router_observation_age_seconds"] < 5


@pytest.mark.parametrize("trouble", ["gone", "empty", "strange"])
async def test_a_scrape_that_fails_leaves_the_last_observation_and_the_next_good_one_counts(
    scraped: Scraped, trouble: str
) -> None:
    scraped.server.pages["/metrics"] = "vllm:num_requests_running 7\n"
    await until(lambda: scraped.seen.running == 7)
    scraped.server.pages["/metrics"] = {"gone": None, "empty": "", "strange": "vllm:num_requests_running NaN\n"}[
        trouble
    ]
    await scraped.scrapes(2)
    last = scraped.seen
    await scraped.scrapes(3)
    assert scraped.seen == last

    scraped.server.pages["/metrics"] = "vllm:num_requests_running 2\n"
    await until(lambda: scraped.seen.running == 2)


async def test_an_engine_that_changes_its_page_is_found_again(scraped: Scraped) -> None:
    scraped.server.pages["/prometheus/metrics"] = "trtllm_num_requests_running 1\n"
    await until(lambda: scraped.seen.running == 1)
    scraped.server.pages = {"/prometheus/metrics": None, "/metrics": "vllm:num_requests_running 2\n"}

    await until(lambda: scraped.seen.running == 2)


async def test_a_server_that_is_unwell_is_out_and_back_when_it_is_well(scraped: Scraped) -> None:
    scraped.server.is_well = False
    await until(lambda: not scraped.pool.endpoints)
    scraped.server.is_well = True
    await until(lambda: bool(scraped.pool.endpoints))
