"""A router that goes while another one is behind the same address: asked again, and only then given up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from reference.gateway.server import PAUSES_SECONDS, gateway_application
from reference.gateway.settings import GatewaySettings
from reference.tests.stack.conftest import MODEL, serving

ANSWER = json.dumps({"object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "lift"}]}


@dataclass
class FlakyRouter:
    """A router on a socket that closes its first connections, having read the request and said only `says`."""

    num_closed: int
    says: bytes = b""
    num_asked: int = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request; close, or answer it."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-l"))
        await reader.readexactly(length)
        self.num_asked += 1
        if self.num_asked <= self.num_closed:
            writer.write(self.says)
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
            writer.write(b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(ANSWER), ANSWER.encode()))
        await writer.drain()
        writer.close()


@asynccontextmanager
async def behind_gateway(router: FlakyRouter) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """Serve a gateway without keys before that router; yields its URL and a client."""
    server = await asyncio.start_server(router.answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = GatewaySettings(router_url=f"http://127.0.0.1:{port}")
    async with server, serving(gateway_application(settings)) as url, aiohttp.ClientSession() as client:
        yield url, client


async def test_a_router_lost_before_it_answered_is_asked_again() -> None:
    router = FlakyRouter(num_closed=len(PAUSES_SECONDS))
    async with (
        behind_gateway(router) as (url, client),
        client.post(f"{url}/v1/chat/completions", json=BODY) as answer,
    ):
        assert answer.status == 200, await answer.text()
        assert (await answer.json())["usage"]["completion_tokens"] == 2
    assert router.num_asked == len(PAUSES_SECONDS) + 1


async def test_a_router_that_stays_away_is_told_in_words_after_a_bounded_number_of_attempts() -> None:
    router = FlakyRouter(num_closed=100)
    async with (
        behind_gateway(router) as (url, client),
        client.post(f"{url}/v1/chat/completions", json=BODY) as answer,
    ):
        assert answer.status == 502
        assert (await answer.json())["error"]["code"] == "upstream_unreachable"
    assert router.num_asked == len(PAUSES_SECONDS) + 1


async def test_a_router_that_has_begun_to_answer_is_not_asked_again() -> None:
    begun = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
    )
    router = FlakyRouter(num_closed=1, says=begun)
    async with (
        behind_gateway(router) as (url, client),
        client.post(f"{url}/v1/chat/completions", json={**BODY, "stream": True}) as answer,
    ):
        said = await answer.text()
        assert said.startswith("data: 1\n\n")
        assert '"error"' in said
    assert router.num_asked == 1
