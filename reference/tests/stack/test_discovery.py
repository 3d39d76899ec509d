"""Endpoints come and go by a file: new ones are taken in, those no longer listed are drained and lose nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest


@pytest.fixture
def listing(tmp_path: Path):
    path = tmp_path / "endpoints.json"
    path.write_text("{}")
    return path


def list_workers(chain, path: Path, *places: int) -> None:
    endpoints = [{"name": f"vllm-{place}", "url": chain.workers[place]} for place in places]
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"tiny": endpoints}))
    fresh.replace(path)


async def test_an_endpoint_that_is_no_longer_listed_finishes_what_it_has(build, until, listing: Path) -> None:
    chain = await build(2, router={"endpoints_file": str(listing)}, listed=False)
    pool = chain.routing.desks["tiny"].pool
    list_workers(chain, listing, 0)
    await until(lambda: [endpoint.name for endpoint in pool.endpoints] == ["vllm-0"])
    long = asyncio.create_task(text_of(chain, stream=True, max_tokens=600))
    await until(lambda: chain.num_running == 1)

    list_workers(chain, listing, 1)
    await until(lambda: {endpoint.name for endpoint in pool.endpoints if not endpoint.is_draining} == {"vllm-1"})

    for _ in range(3):
        async with chain.ask() as answer:
            assert answer.headers["x-windtunnel-decision"].startswith("endpoint=vllm-1;")
    assert [endpoint.name for endpoint in pool.endpoints] == ["vllm-0", "vllm-1"]
    assert (await long).endswith("data: [DONE]\n\n")
    await until(lambda: [endpoint.name for endpoint in pool.endpoints] == ["vllm-1"])


async def test_an_endpoint_can_come_back(build, until, listing: Path) -> None:
    chain = await build(2, router={"endpoints_file": str(listing)}, listed=False)
    pool = chain.routing.desks["tiny"].pool
    for places in ((0, 1), (1,), (0, 1), (0,)):
        list_workers(chain, listing, *places)
        names = [f"vllm-{place}" for place in places]
        await until(lambda names=names: [endpoint.name for endpoint in pool.endpoints] == names, 4)


async def test_a_broken_file_changes_nothing(build, until, listing: Path) -> None:
    chain = await build(1, router={"endpoints_file": str(listing)}, listed=False)
    pool = chain.routing.desks["tiny"].pool
    list_workers(chain, listing, 0)
    await until(lambda: len(pool.endpoints) == 1)

    for wrong in ("{", '{"tiny": [{"name": "x"}]}', "[]"):
        listing.write_text(wrong)
        await asyncio.sleep(0.6)
        assert len(pool.endpoints) == 1
    listing.unlink()
    await asyncio.sleep(0.6)
    async with chain.ask() as answer:
        assert answer.status == 200


async def text_of(chain, **body) -> str:
    async with chain.ask(**body) as answer:
        return await answer.text()
