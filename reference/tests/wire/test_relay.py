"""The relay between real sockets: whatever pieces bytes come in, clients get what the upstream said, or an error."""

from __future__ import annotations

from itertools import pairwise

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reference.wire.relay import Ending
from reference.wire.sse import DONE, event

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
MANY = settings(max_examples=40, deadline=None)


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    """Cut bytes at these places."""
    edges = [0, *sorted({place % (len(raw) + 1) for place in places}), len(raw)]
    return [raw[start:end] for start, end in pairwise(edges) if end > start]


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%X\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"


places = st.lists(st.integers(0, 2000), max_size=12)
texts = st.text(st.sampled_from('lift {"error"}[DONE]\n:'), min_size=1, max_size=30)
events = st.lists(texts.map(lambda text: event({"choices": [{"delta": {"content": text}}]})), min_size=1, max_size=8)


@MANY
@given(
    told=events,
    chunks=places,
    reads=places,
    framing=st.sampled_from(["chunked", "length", "close"]),
    comment=st.booleans(),
)
def test_a_stream_arrives_as_it_was_said_in_whatever_pieces(wire, bench, told, chunks, reads, framing, comment) -> None:
    body = (b": ping\n\n" if comment else b"") + b"".join(told) + DONE
    framed, head = body, b""
    if framing == "chunked":
        framed, head = chunked(cut(body, chunks)), b"transfer-encoding: chunked\r\n"
    elif framing == "length":
        head = b"content-length: %d\r\n" % len(body)
    raw = STREAM_HEAD + head + b"\r\n" + framed

    said, ended = bench.ask(wire.saying(*cut(raw, reads)), wire.request(b"{}", b"connection: close"))

    answer = wire.answer(said)
    assert (answer.status, answer.body, answer.is_whole) == (200, body, True)
    assert answer.headers[b"x-own"] == b"1"
    assert [relayed.ending for relayed in ended] == [Ending.COMPLETE]


@MANY
@given(told=events, end=st.integers(0, 10_000), reads=places, is_chunked=st.booleans())
def test_a_stream_that_breaks_off_anywhere_ends_in_an_error_and_in_no_done(
    wire, bench, told, end, reads, is_chunked
) -> None:
    body = b"".join(told)
    body = body[: 1 + end % len(body)]
    framed = chunked([body])[: -len(b"0\r\n\r\n")] if is_chunked else body
    raw = STREAM_HEAD + (b"transfer-encoding: chunked\r\n" if is_chunked else b"") + b"\r\n" + framed

    said, ended = bench.ask(wire.saying(*cut(raw, reads)), wire.request(b"{}", b"connection: close"))

    answer = wire.answer(said)
    assert answer.body.startswith(body)
    rest = answer.body[len(body) :]
    assert orjson.loads(rest.strip().removeprefix(b"data: "))["error"]["code"] == "upstream_lost"
    assert answer.is_whole
    assert b"data: [DONE]\n" not in answer.body
    assert [relayed.ending for relayed in ended] == [Ending.BROKEN]


@MANY
@given(body=st.binary(min_size=0, max_size=300), reads=places, writes=places, status=st.sampled_from([200, 201, 302]))
def test_a_whole_answer_arrives_as_it_was_said(wire, bench, body, reads, writes, status) -> None:
    raw = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body
    asked = wire.request(b'{"some": "text"}', b"connection: close")

    said, _ = bench.ask(wire.saying(*cut(raw, reads), then_close=False), cut(asked, writes))

    answer = wire.answer(said)
    assert (answer.status, answer.body, answer.is_whole) == (status, body, True)


@MANY
@given(
    raw=st.binary(max_size=200),
    prefix=st.sampled_from([b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"]),
)
@example(raw=b"content-length: 5\r\n\r\nabc", prefix=b"HTTP/1.1 200 OK\r\n")
@example(raw=b"content-length: 1\r\ncontent-length: 2\r\n\r\nabc", prefix=b"HTTP/1.1 200 OK\r\n")
@example(raw=b"transfer-encoding: chunked\r\n\r\nxyz\r\n", prefix=b"HTTP/1.1 200 OK\r\n")
@example(raw=b"101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nabc", prefix=b"HTTP/1.1 ")
def test_whatever_an_upstream_says_the_client_gets_an_answer(wire, bench, raw, prefix) -> None:
    said, ended = bench.ask(wire.saying(prefix + raw), wire.request(b"{}", b"connection: close"))

    answer = wire.answer(said)
    (relayed,) = ended
    assert answer.is_whole
    if relayed.ending is Ending.UNREACHABLE:
        assert (answer.status, answer.error["code"]) == (502, "upstream_unreachable")
    else:
        assert answer.status == relayed.status


@MANY
@given(
    raw=st.binary(min_size=1, max_size=120),
    prefix=st.sampled_from([b"", b"POST ", b"POST /v1/chat/completions HTTP/1.1\r\n"]),
)
@example(
    raw=b"host: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    prefix=b"POST /v1/chat/completions HTTP/1.1\r\n",
)
@example(raw=b"host: x\r\ncontent-length: -1\r\n\r\n", prefix=b"POST /v1/chat/completions HTTP/1.1\r\n")
def test_whatever_a_client_says_it_gets_an_error_object_or_nothing(wire, bench, raw, prefix) -> None:
    said, ended = bench.ask(wire.saying(b""), [prefix + raw, None])

    assert not ended
    if said:
        answer = wire.answer(said)
        assert answer.status in (400, 404, 405)
        assert answer.error["type"] in ("invalid_request_error", "not_found_error")


@pytest.mark.parametrize(
    "told", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"]
)
async def test_what_announces_an_answer_is_none(wire, told) -> None:
    async with wire.between() as middle:
        middle.session = wire.saying(told + b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        answer = wire.answer(await middle.ask(wire.request(b"{}", b"connection: close")))

    assert (answer.status, answer.body) == (200, b"hi")
    assert b"link" not in answer.headers


async def test_what_belongs_to_a_connection_is_not_passed_on(wire) -> None:
    head = (
        b"HTTP/1.1 200 OK\r\nconnection: close, x-private\r\nx-private: 1\r\nx-public: 2\r\nkeep-alive: timeout=5\r\n"
    )
    async with wire.between() as middle:
        middle.session = wire.saying(head + b"content-length: 0\r\n\r\n")
        answer = wire.answer(await middle.ask(wire.request(b"{}", b"connection: close")))

    assert answer.headers.keys() == {b"x-public", b"x-own", b"content-length", b"connection"}


async def test_an_errors_body_is_normalised_and_kept(wire) -> None:
    async with wire.between() as middle:
        middle.session = wire.saying(
            b"HTTP/1.1 429 X\r\nretry-after: 7\r\ncontent-length: 17\r\n\r\n" + b'{"error": "full"}'
        )
        answer = wire.answer(await middle.ask(wire.request(b"{}", b"connection: close")))

    assert (answer.status, answer.headers[b"retry-after"]) == (429, b"7")
    assert (answer.error["message"], answer.error["type"]) == ("full", "rate_limit_error")
