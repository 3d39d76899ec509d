"""EndpointSlices by list and watch, from an API server on a real socket, through everything that goes wrong with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reference.router.settings import KubernetesBlock, RouterSettings, SlicesBlock
from reference.router.sources.kubernetes import Backoff, ServiceSlices

LLAMA = SlicesBlock(service="llama")


class Follower:
    """What a source has told, and the pauses that it made."""

    def __init__(self) -> None:
        self.told: list[dict[str, str]] = []
        self.pauses: list[float] = []

    @property
    def names(self) -> list[str] | None:
        return sorted(self.told[-1]) if self.told else None

    def take(self, listing) -> None:
        self.told.append({block.name: block.url for block in listing["llama"]})

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0.001)


@asynccontextmanager
async def following(settings: KubernetesBlock, block: SlicesBlock = LLAMA) -> AsyncIterator[Follower]:
    follower = Follower()
    source = ServiceSlices("llama", block, settings, pause=follower.pause, chance=lambda: 1.0)
    task = asyncio.create_task(source.follow(follower.take))
    try:
        yield follower
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not holds():
        assert loop.time() < end, "it never came to hold"
        await asyncio.sleep(0.002)


async def test_several_slices_are_one_service_and_changes_come_by_watch(slices_api, pod) -> None:
    slices_api.put("llama-a", pod("llama-0", "10.0.0.1"), pod("llama-1", "10.0.0.2"))
    slices_api.put("llama-b", pod("llama-2", "10.0.0.3"))
    slices_api.put("bert-a", pod("bert-0", "10.0.1.1"), service="bert")
    async with following(slices_api.settings) as follower:
        await until(lambda: follower.names == ["llama-0", "llama-1", "llama-2"])
        assert follower.told[-1]["llama-2"] == "http://10.0.0.3:8000"

        slices_api.put("llama-b", pod("llama-2", "10.0.0.3"), pod("llama-3", "10.0.0.4"))
        slices_api.put("bert-a", service="bert")
        await until(lambda: follower.names == ["llama-0", "llama-1", "llama-2", "llama-3"])
        slices_api.delete("llama-a")
        await until(lambda: follower.names == ["llama-2", "llama-3"])

    assert slices_api.num_calls(watch=False) == 1
    assert follower.pauses == []


async def test_pods_that_terminate_or_are_not_ready_are_out(slices_api, pod) -> None:
    slices_api.put("llama-a", pod("llama-0", "10.0.0.1"), pod("llama-1", "10.0.0.2", ready=None))
    async with following(slices_api.settings) as follower:
        await until(lambda: follower.names == ["llama-0", "llama-1"])
        slices_api.put("llama-a", pod("llama-0", "10.0.0.1", ready=False, terminating=True), pod("llama-1", "10.0.0.2"))
        await until(lambda: follower.names == ["llama-1"])
        slices_api.put("llama-a", pod("llama-1", "10.0.0.2", ready=False))
        await until(lambda: follower.names == [])
        slices_api.put("llama-a", pod("llama-1", "10.0.0.2"))
        await until(lambda: follower.names == ["llama-1"])


async def test_a_watch_that_drops_is_taken_up_where_it_ended(slices_api, pod) -> None:
    slices_api.put("llama-a", pod("llama-0", "10.0.0.1"))
    async with following(slices_api.settings) as follower:
        for number in range(1, 4):
            await until(lambda: slices_api.num_watches == 1)
            slices_api.drop_watches()
            slices_api.put("llama-a", pod(f"llama-{number}", "10.0.0.1"))
            await until(lambda number=number: follower.names == [f"llama-{number}"])

    assert slices_api.num_calls(watch=False) == 1, "nothing was listed anew"
    assert len(follower.pauses) == 3


async def test_a_watch_that_ends_in_its_time_is_begun_again_at_once(slices_api, pod) -> None:
    slices_api.watch_seconds = 2.0
    slices_api.put("llama-a", pod("llama-0", "10.0.0.1"))
    async with following(slices_api.settings) as follower:
        await until(lambda: slices_api.num_calls(watch=True) == 2)
        slices_api.bookmark()
        slices_api.put("llama-a", pod("llama-1", "10.0.0.1"))
        await until(lambda: follower.names == ["llama-1"])

    assert follower.pauses == []
    assert slices_api.num_calls(watch=False) == 1


@pytest.mark.parametrize("while_watching", [True, False])
async def test_a_version_that_expired_means_to_list_anew(slices_api, pod, while_watching: bool) -> None:
    slices_api.put("llama-a", pod("llama-0", "10.0.0.1"))
    async with following(slices_api.settings) as follower:
        await until(lambda: slices_api.num_watches == 1)
        slices_api.put("llama-b", pod("llama-1", "10.0.0.2"), service="other")
        slices_api.slices["llama-a"]["endpoints"] = [pod("llama-9", "10.0.0.9")]
        slices_api.compact()
        if while_watching:
            slices_api.bookmark()
        else:
            slices_api.drop_watches()
        await until(lambda: follower.names == ["llama-9"])

    assert slices_api.num_calls(watch=False) == 2
    assert len(follower.pauses) == (0 if while_watching else 1), "for the drop, and none for the version"


async def test_an_api_that_expires_everything_is_not_asked_without_a_pause(slices_api, pod) -> None:
    slices_api.put("llama-a", pod("llama-0", "10.0.0.1"))
    slices_api.oldest = 10**9
    async with following(slices_api.settings) as follower:
        await until(lambda: len(follower.pauses) >= 4)

    assert follower.pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert slices_api.num_calls(watch=False) <= len(follower.pauses) + 2


async def test_a_bookmark_spares_a_list(slices_api, pod) -> None:
    slices_api.put("llama-a", pod("llama-0", "10.0.0.1"))
    async with following(slices_api.settings) as follower:
        await until(lambda: slices_api.num_watches == 1)
        seen = slices_api.num_calls(watch=True)
        slices_api.bookmark()
        await asyncio.sleep(0.05)
        slices_api.compact()
        slices_api.drop_watches()
        await until(lambda: slices_api.num_calls(watch=True) > seen)
        slices_api.put("llama-a", pod("llama-1", "10.0.0.1"))
        await until(lambda: follower.names == ["llama-1"])

    assert slices_api.num_calls(watch=False) == 1


async def test_a_long_list_is_read_page_by_page(slices_api, pod) -> None:
    slices_api.page_size = 2
    for number in range(7):
        slices_api.put(f"llama-{number}", pod(f"llama-{number}", f"10.0.0.{number}"))
    async with following(slices_api.settings) as follower:
        await until(lambda: follower.told != [])

    assert len(follower.told[0]) == 7
    assert slices_api.num_calls(watch=False) == 4


async def test_while_the_api_refuses_the_endpoints_stay_and_the_pauses_grow(slices_api, pod, caplog) -> None:
    slices_api.put("llama-a", pod("llama-0", "10.0.0.1"))
    async with following(slices_api.settings) as follower:
        await until(lambda: slices_api.num_watches == 1)
        slices_api.refuse = [500, 403, 429, 503]
        with caplog.at_level(logging.WARNING):
            slices_api.drop_watches()
            await until(lambda: slices_api.num_watches == 1 and not slices_api.refuse)
        slices_api.put("llama-a", pod("llama-1", "10.0.0.1"))
        await until(lambda: follower.names == ["llama-1"])

    assert [sorted(told) for told in follower.told] == [["llama-0"], ["llama-1"]]
    assert follower.pauses == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert "needs get, list and watch on endpointslices.discovery.k8s.io in namespace serving" in caplog.text


async def test_a_token_that_was_rotated_is_read_again(slices_api, pod) -> None:
    slices_api.put("llama-a", pod("llama-0", "10.0.0.1"))
    async with following(slices_api.settings) as follower:
        await until(lambda: slices_api.num_watches == 1)
        slices_api.rotate("token-2")
        slices_api.drop_watches()
        slices_api.put("llama-a", pod("llama-1", "10.0.0.1"))
        await until(lambda: follower.names == ["llama-1"])

    assert len(follower.pauses) == 1, "for the drop, and none for the token"


async def test_an_api_with_a_certificate_of_another_authority_is_not_believed(slices_api, pod, caplog) -> None:
    import trustme

    slices_api.put("llama-a", pod("llama-0", "10.0.0.1"))
    trustme.CA().cert_pem.write_to_path(slices_api.settings.ca_file)
    with caplog.at_level(logging.WARNING):
        async with following(slices_api.settings) as follower:
            await until(lambda: len(follower.pauses) >= 2)

    assert follower.told == []
    assert slices_api.calls == []
    assert "certificate verify failed" in caplog.text


@given(num=st.integers(1, 40), chance=st.floats(0.0, 0.999))
def test_pauses_grow_to_a_bound_and_begin_again(num: int, chance: float) -> None:
    backoff = Backoff(lambda: chance, first=0.5, longest=30.0)
    pauses = [backoff.seconds() for _ in range(num)]

    assert pauses == sorted(pauses)
    assert all(0.25 <= pause <= 30.0 for pause in pauses)
    backoff.reset()
    assert backoff.seconds() == pauses[0]


def test_slices_outside_of_a_cluster_need_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    pools = [{"model": "llama", "endpoint_slices": [{"service": "llama"}]}]
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ValidationError, match=r"expected kubernetes\.url"):
        RouterSettings(pools=pools)  # type: ignore[arg-type]

    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    assert RouterSettings(pools=pools).kubernetes.url == "https://[fd00::1]:6443"  # type: ignore[arg-type]
