"""Calls on a connection: pipelined, refused, late, slow, abandoned; and connections upstream: kept, stale, given up."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from reference.wire import http_server, serving
from reference.wire.relay import Ending

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


async def until(holds, seconds: float = 5.0) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, "it never came to hold"
        await asyncio.sleep(0.002)


async def test_pipelined_requests_are_answered_in_their_order(wire) -> None:
    async def echo(reader, writer) -> None:
        while True:
            body = (await wire.read_request(reader)).partition(b"\r\n\r\n")[2]
            await asyncio.sleep(0.03 if body == b"1" else 0)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n" + body)

    async with wire.between() as middle:
        middle.session = echo
        pages = b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n"
        said = await middle.ask(
            wire.request(b"1") + pages + wire.request(b"2") + wire.request(b"3", b"connection: close")
        )

    bodies = [part.partition(b"\r\n\r\n")[2] for part in said.split(b"HTTP/1.1 ")[1:]]
    assert [bodies[0], bodies[2], bodies[3]] == [b"1", b"2", b"3"]
    assert b"unknown_url" in bodies[1]


async def test_connections_upstream_are_kept_and_used_again(wire) -> None:
    async with wire.between() as middle:
        middle.session = wire.saying(OK + b"hi", then_close=False)
        for _ in range(5):
            assert (await middle.ask(wire.request(b"{}", b"connection: close"))).endswith(b"hi")

        assert middle.num_connections == 1
        assert middle.upstreams.num_idle == 1


async def test_a_kept_connection_that_was_closed_meanwhile_is_replaced(wire) -> None:
    async def once(reader, writer) -> None:
        await wire.read_request(reader)
        writer.write(OK + b"hi")
        # it takes the next request and closes without a word, as a server does whose patience has just ended
        await wire.read_request(reader)

    async with wire.between() as middle:
        middle.session = once
        for _ in range(3):
            assert (await middle.ask(wire.request(b"{}", b"connection: close"))).endswith(b"hi")
        assert middle.num_connections == 3
    assert {relayed.ending for relayed in middle.relayed} == {Ending.COMPLETE}


async def test_a_fresh_connection_that_breaks_is_not_tried_again(wire) -> None:
    async with wire.between() as middle:
        middle.session = wire.saying(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        said = await middle.ask(wire.request(b"{}", b"connection: close"))

    assert said.startswith(b"HTTP/1.1 502")
    assert middle.num_connections == 1


@pytest.mark.parametrize("surplus", [b"more", b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad"])
async def test_a_connection_that_says_more_than_was_asked_is_not_used_again(wire, surplus) -> None:
    async with wire.between() as middle:
        middle.session = wire.saying(OK + b"hi" + surplus, then_close=False)
        for _ in range(2):
            assert (await middle.ask(wire.request(b"{}", b"connection: close"))).endswith(b"\r\n\r\nhi")
        assert middle.num_connections == 2


@pytest.mark.parametrize("framing", [b"content-length: 5000", b"transfer-encoding: chunked"])
async def test_a_body_that_is_too_large_is_413_even_while_it_comes(wire, framing) -> None:
    body = b"1388\r\n" + b"x" * 5000 + b"\r\n0\r\n\r\n" if b"chunked" in framing else b"x" * 5000
    head = b"POST " + wire.path.encode() + b" HTTP/1.1\r\nhost: x\r\n" + framing + b"\r\n\r\n"
    async with wire.between() as middle:
        said = await middle.ask([head, *(body[at : at + 700] for at in range(0, len(body), 700))], pause=0.001)

    assert said.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in said
    assert orjson.loads(said.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_too_large"
    assert not middle.relayed


async def test_headers_without_an_end_are_431(wire) -> None:
    async with wire.between() as middle:
        said = await middle.ask([b"POST / HTTP/1.1\r\n", *[b"x-filler: " + b"y" * 4000 + b"\r\n"] * 17], pause=0.001)

    assert said.startswith(b"HTTP/1.1 431")


async def test_a_request_that_never_comes_whole_is_408(wire, monkeypatch) -> None:
    monkeypatch.setattr(http_server, "ARRIVAL_SECONDS", 0.05)
    monkeypatch.setattr(http_server, "LINGER_SECONDS", 0.05)
    whole = wire.request(b"{}")
    async with wire.between() as middle:
        for partial in (whole[:-1], whole[:30]):
            assert (await middle.ask(partial)).startswith(b"HTTP/1.1 408")
    assert not middle.relayed


async def test_a_client_that_asks_first_is_told_to_go_on(wire) -> None:
    async with wire.between() as middle:
        middle.session = wire.saying(OK + b"hi")
        whole = wire.request(b"{}", b"expect: 100-continue", b"connection: close")
        said = await middle.ask([whole[:-2], whole[-2:]], pause=0.05)
        refused = await middle.ask(wire.request(b"x" * 5000, b"expect: 100-continue")[:-5000])

    assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
    assert refused.startswith(b"HTTP/1.1 413")


async def test_http_1_0_gets_a_stream_that_ends_with_the_connection(wire) -> None:
    async with wire.between() as middle:
        middle.session = wire.saying(STREAM + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n".replace(b"e\r\n", b"e\r\n", 1))
        said = await middle.ask(wire.request().replace(b"HTTP/1.1", b"HTTP/1.0"))

    head, _, body = said.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"connection: close" in head
    assert body == b"data: [DONE]\n\n"


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"HEAD", b"OPTIONS", b"DELETE"])
async def test_other_methods_are_left_to_the_application(wire, method) -> None:
    async with wire.between() as middle:
        said = await middle.ask(wire.request(b"", b"connection: close").replace(b"POST", method, 1))

    assert said.startswith(b"HTTP/1.1 405")
    assert b"\r\nallow: POST" in said


async def test_a_path_that_is_escaped_or_has_a_query_is_the_same_path(wire) -> None:
    async with wire.between() as middle:
        middle.session = wire.saying(OK + b"hi")
        for path in ("/v1/chat%2Fcompletions", "/v1/chat/completions?api-version=1"):
            assert (await middle.ask(wire.request(b"{}", b"connection: close", path=path))).endswith(b"hi")


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n", OK, STREAM, STREAM + b"5\r\ndata:\r\n"])
async def test_a_client_that_leaves_ends_the_connection_upstream(wire, said) -> None:
    gone = asyncio.Event()

    async def session(reader, writer) -> None:
        await wire.read_request(reader)
        writer.write(said)
        await reader.read()
        gone.set()

    async with wire.between() as middle:
        middle.session = session
        _, writer = await asyncio.open_connection("127.0.0.1", middle.port)
        writer.write(wire.request())
        await until(lambda: middle.num_connections == 1)
        await asyncio.sleep(0.02)
        writer.close()
        await asyncio.wait_for(gone.wait(), 2)

    assert middle.left == [wire.path]
    assert not middle.relayed


async def test_a_client_that_reads_slowly_holds_the_upstream_back_and_loses_nothing(wire) -> None:
    chunk = b"data: " + b"x" * 65_000 + b"\n\n"
    num_written = 0

    async def session(reader, writer) -> None:
        nonlocal num_written
        await wire.read_request(reader)
        writer.write(STREAM)
        for _ in range(300):
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()
            num_written += 1
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        await writer.drain()

    async with wire.between() as middle:
        middle.session = session
        reader, writer = await asyncio.open_connection("127.0.0.1", middle.port, limit=2**16)
        writer.write(wire.request(b"{}", b"connection: close"))
        await until(lambda: num_written > 0)
        before = -1
        while before != num_written:
            before = num_written
            await asyncio.sleep(0.1)
        assert num_written < 300
        said = await asyncio.wait_for(reader.read(), 20)
        writer.close()

    assert wire.answer(said).body == chunk * 300 + b"data: [DONE]\n\n"
    assert [relayed.ending for relayed in middle.relayed] == [Ending.COMPLETE]


async def test_a_client_that_takes_nothing_for_too_long_is_let_go(wire, monkeypatch) -> None:
    monkeypatch.setattr(http_server, "STALL_SECONDS", 0.1)
    chunk = b"data: " + b"x" * 65_000 + b"\n\n"

    async def session(reader, writer) -> None:
        await wire.read_request(reader)
        writer.write(STREAM)
        while True:
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()

    async with wire.between() as middle:
        middle.session = session
        _, writer = await asyncio.open_connection("127.0.0.1", middle.port, limit=2**16)
        writer.write(wire.request())
        await until(lambda: middle.left == [wire.path])
        writer.close()


async def test_a_connection_is_kept_while_it_is_used_and_closed_when_it_is_idle(wire, monkeypatch) -> None:
    monkeypatch.setattr(serving, "KEEP_ALIVE_SECONDS", 0.3)
    slow = wire.saying(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", b"{", b"}", then_close=False, pause=0.2)
    async with wire.between() as middle:
        middle.session = slow
        reader, writer = await asyncio.open_connection("127.0.0.1", middle.port)
        for _ in range(4):
            # an answer takes longer than a connection may be idle, and so do all of them with their pauses
            writer.write(wire.request())
            assert b"200 OK" in await reader.readuntil(b"{}")
            await asyncio.sleep(0.15)
        idle_since = asyncio.get_running_loop().time()
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert asyncio.get_running_loop().time() - idle_since < 1
        writer.close()


async def test_nobody_listening_is_told_as_such(wire) -> None:
    async with wire.between() as middle:
        middle.url = "http://127.0.0.1:1"
        said = await middle.ask(wire.request(b"{}", b"connection: close"))

    assert said.startswith(b"HTTP/1.1 502")
    assert [relayed.is_refused for relayed in middle.relayed] == [True]
