"""Endpoints by way of a source into a pool: taken in when healthy, drained when no longer named, and welcome back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from reference.policy.pool import Outcome, Pool, PoolSettings
from reference.policy.routing.registry import build_routing
from reference.policy.view import RequestView
from reference.router.desk import Desk
from reference.router.discovery import Discovery, Take
from reference.router.settings import EndpointBlock, RouterSettings, SlicesBlock
from reference.router.sources.kubernetes import ServiceSlices


class Told:
    """A source that tells what a test has it tell; at first it fails."""

    def __init__(self, failures: int = 0) -> None:
        self.take: Take | None = None
        self.failures = failures

    async def follow(self, take: Take) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("a source with a mistake in it")
        self.take = take
        await asyncio.Event().wait()


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A server that is healthy and has no metrics."""

    async def health(_: web.Request) -> web.Response:
        return web.Response()

    application = web.Application()
    application.router.add_get("/health", health)
    async with TestServer(application) as server:
        yield f"http://127.0.0.1:{server.port}"


@asynccontextmanager
async def discovering(**sources) -> AsyncIterator[tuple[Discovery, Pool]]:
    pool = Pool(PoolSettings(), build_routing("least_in_flight"), lambda: 0.0)
    desks = {"llama": Desk(pool, asyncio.get_running_loop().time)}
    settings = RouterSettings(pools=[{"model": "llama"}], health_interval_seconds=0.02)  # type: ignore[list-item]
    async with aiohttp.ClientSession() as session:
        discovery = Discovery(settings, desks, session, sources)
        task = asyncio.create_task(discovery.run())
        try:
            yield discovery, pool
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            discovery.close()


async def until(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not holds():
        assert loop.time() < end, "it never came to hold"
        await asyncio.sleep(0.002)


def names(pool: Pool) -> list[str]:
    return [endpoint.name for endpoint in pool.endpoints if not endpoint.is_draining]


def request(number: int) -> RequestView:
    return RequestView(str(number), "llama", 0.0, 10)


async def test_what_several_sources_tell_is_one_pool(url: str) -> None:
    one, other = Told(), Told()
    async with discovering(one=one, other=other) as (discovery, pool):
        discovery.update({"llama": [EndpointBlock(name="always", url=url)]})
        await until(lambda: bool(one.take and other.take))
        one.take({"llama": [EndpointBlock(name="a", url=url)]})
        other.take({"llama": [EndpointBlock(name="b", url=url)], "unknown": [EndpointBlock(name="c", url=url)]})
        await until(lambda: names(pool) == ["a", "always", "b"])

        one.take({"llama": []})
        assert names(pool) == ["always", "b"]


async def test_who_is_named_again_while_it_drains_takes_requests_again_at_once(url: str) -> None:
    source = Told()
    block = EndpointBlock(name="a", url=url)
    async with discovering(source=source) as (_, pool):
        await until(lambda: source.take is not None)
        source.take({"llama": [block]})
        await until(lambda: names(pool) == ["a"])
        pool.submit(request(1), 0.0)

        source.take({})
        assert names(pool) == []
        source.take({"llama": [block.model_copy(update={"weight": 3.0, "version": "2"})]})

        assert names(pool) == ["a"]
        assert [(endpoint.in_flight, endpoint.weight, endpoint.version) for endpoint in pool.endpoints] == [
            (1, 3.0, "2")
        ]


async def test_who_moved_is_taken_in_at_its_new_address_once_it_has_left_the_old_one(url: str) -> None:
    source = Told()
    async with discovering(source=source) as (discovery, pool):
        await until(lambda: source.take is not None)
        source.take({"llama": [EndpointBlock(name="a", url=url)]})
        await until(lambda: names(pool) == ["a"])
        pool.submit(request(1), 0.0)

        moved = url.replace("127.0.0.1", "localhost")
        source.take({"llama": [EndpointBlock(name="a", url=moved)]})
        assert names(pool) == []
        assert discovery.known["llama", "a"].block.url == url
        pool.finished("1", Outcome.OK, 1.0)

        await until(lambda: names(pool) == ["a"])
        assert discovery.known["llama", "a"].block.url == moved


async def test_a_source_with_a_mistake_is_begun_again_and_the_log_has_it(url: str, monkeypatch, caplog) -> None:
    monkeypatch.setattr("reference.router.discovery.RESTART_SECONDS", 0.01)
    source = Told(failures=2)
    async with discovering(source=source):
        await until(lambda: source.take is not None)

    assert caplog.text.count("RuntimeError: a source with a mistake") == 2


async def test_a_pod_that_terminates_is_drained_and_forgotten_when_it_has_finished(slices_api, pod, url: str) -> None:
    port = int(url.rpartition(":")[2])
    ports = [{"name": "http", "port": port}]
    slices_api.put("llama-a", pod("llama-0", "127.0.0.1"), ports=ports)
    source = ServiceSlices("llama", SlicesBlock(service="llama"), slices_api.settings)
    async with discovering(source=source) as (discovery, pool):
        await until(lambda: names(pool) == ["llama-0"])
        pool.submit(request(1), 0.0)

        slices_api.put("llama-a", pod("llama-0", "127.0.0.1", ready=False, terminating=True), ports=ports)
        await until(lambda: names(pool) == [])
        await asyncio.sleep(0.1)
        assert [endpoint.in_flight for endpoint in pool.endpoints] == [1]

        pool.finished("1", Outcome.OK, 1.0)
        await until(lambda: not discovery.known)
        assert not pool.endpoints
