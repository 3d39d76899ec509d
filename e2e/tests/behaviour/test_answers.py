"""What a client gets through the whole chain of what a worker says, well or ill; and what the worker is told."""

from __future__ import annotations

import json
import socket

import pytest

CHAT = "/v1/chat/completions"
TRACE = "0af7651916cd43dd8448eb211c80319c"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"lift"},"finish_reason":null}]}\n\n'
LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}\n\n'
DONE = b"data: [DONE]\n\n"


def scripted(stack, answer: bytes, **more):
    """Ask the scripted worker, which says `answer` and closes."""
    stack.scripted.answer = answer
    stack.scripted.asked.clear()
    return stack.ask(model="scripted", **more)


@pytest.mark.parametrize(
    "body",
    [
        TOKEN + LAST + DONE,
        b": a comment\n\n" + TOKEN + b": another\n\n" + LAST + USAGE + DONE,
        (TOKEN + LAST + USAGE + DONE).replace(b"\n", b"\r\n"),
        b"id: 7\nevent: message\nretry: 10\n" + TOKEN + LAST + b'data: {"unknown": ["\xc3\xa9"]}\n\n' + DONE,
    ],
)
def test_the_bytes_of_a_stream_are_those_of_the_worker(stack, body) -> None:
    assert scripted(stack, STREAM + body, stream=True).body == body


@pytest.mark.parametrize(
    "said",
    [
        TOKEN,
        TOKEN + TOKEN[:20],
        TOKEN + LAST,
        TOKEN + LAST + USAGE,
    ],
)
def test_a_stream_without_its_end_ends_in_a_typed_error(stack, said) -> None:
    answer = scripted(stack, STREAM + said, stream=True)

    assert answer.body.startswith(said)
    error = json.loads(answer.events[-1])["error"]
    assert (error["type"], error["code"]) == ("server_error", "upstream_lost")
    assert "[DONE]" not in answer.events
    assert answer.body.count(b'"finish_reason":"') == said.count(b'"finish_reason":"')


@pytest.mark.parametrize("fault", ["die", "end", "reset"])
def test_a_worker_that_fails_in_mid_stream_is_told_as_such(stack, fault) -> None:
    for worker in ("one", "two"):
        stack.inject(worker, fault=fault, tokens=3, lasts=20)

    answer = stack.ask(stream=True)

    assert answer.status == 200
    assert json.loads(answer.events[-1])["error"]["code"] == "upstream_lost"
    assert not any(choice["finish_reason"] for event in answer.events[:-1] for choice in json.loads(event)["choices"])


def test_a_workers_own_error_event_stays_the_last_word(stack) -> None:
    told = b'data: {"error":{"message":"out of memory","type":"server_error","param":null,"code":null}}\n\n'
    for end in (b"", DONE):
        assert scripted(stack, STREAM + TOKEN + told + end, stream=True).body == TOKEN + told + end


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 2", b"SMTP ready\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"]
)
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_is_none_is_502(stack, said, stream) -> None:
    answer = scripted(stack, said, stream=stream)

    assert answer.status == 502
    assert (answer.error["type"], answer.error["code"]) == ("server_error", "upstream_unreachable")


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", "context_length_exceeded"),
        (404, "not_found_error", "no_such_adapter"),
        (409, "conflict_error", None),
        (429, "rate_limit_error", "overloaded"),
        (500, "server_error", "cuda"),
        (503, "server_error", "warming_up"),
    ],
)
def test_a_workers_error_keeps_its_status_type_code_and_retry_after(stack, status, kind, code) -> None:
    body = json.dumps({"error": {"message": "why", "type": kind, "param": "messages", "code": code}}).encode()
    head = b"HTTP/1.1 %d X\r\nretry-after: 17\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"

    answer = scripted(stack, head % (status, len(body)) + body)

    assert (answer.status, answer.headers["retry-after"], answer.body) == (status, "17", body)


def test_the_worker_is_told_the_request_and_its_trace_but_not_the_key(stack) -> None:
    headers = {"x-request-id": "flight-7", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "cookie": "a=b"}
    stack.scripted.answer = STREAM + TOKEN + LAST + DONE
    stack.scripted.asked.clear()

    answer = stack.ask(model="scripted", stream=True, headers=headers)

    (asked,) = stack.scripted.asked
    head, _, body = asked.partition(b"\r\n\r\n")
    assert json.loads(body) == stack.body(model="scripted", stream=True)
    assert b"x-request-id: flight-7\r\n" in head
    assert f"traceparent: 00-{TRACE}-".encode() in head
    assert b"00f067aa0ba902b7" not in head
    for secret in (b"authorization", b"Bearer", b"wt-behaviour-secret", b"cookie"):
        assert secret not in asked
    assert answer.headers["x-request-id"] == "flight-7"


@pytest.mark.parametrize("name", ["x-request-id", "traceparent"])
def test_nonsense_in_a_header_is_not_passed_on(stack, name) -> None:
    stack.scripted.answer = STREAM + DONE
    stack.scripted.asked.clear()
    stack.ask(model="scripted", stream=True, headers={name: "x y;z" * 60})

    assert b"x y;z" not in stack.scripted.asked[0]


REFUSALS = [
    ("POST", CHAT, b"{", 400, None, "invalid_json"),
    ("POST", CHAT, b'"text"', 400, None, "invalid_json"),
    ("POST", CHAT, b'{"model": "tiny", "messages": "hello"}', 400, "messages", "invalid_value"),
    ("POST", CHAT, b'{"messages": []}', 400, "model", "missing_required_parameter"),
    (
        "POST",
        CHAT,
        b'{"model": "none", "messages": [{"role": "user", "content": "x"}]}',
        404,
        "model",
        "model_not_found",
    ),
    ("POST", CHAT, b" " * 100_001, 413, None, "request_too_large"),
    ("POST", "/v1/nothing", b"{}", 404, None, "unknown_url"),
    ("GET", CHAT, None, 405, None, "method_not_allowed"),
    ("PUT", CHAT, b"{}", 405, None, "method_not_allowed"),
    ("DELETE", "/v1/models", None, 405, None, "method_not_allowed"),
]


@pytest.mark.parametrize(("method", "path", "raw", "status", "param", "code"), REFUSALS)
def test_every_refusal_is_an_error_object(stack, method, path, raw, status, param, code) -> None:
    answer = stack.send(method, path, raw)

    assert (answer.status, answer.error["param"], answer.error["code"]) == (status, param, code)
    assert answer.error["type"] in ("invalid_request_error", "not_found_error")


def test_another_content_type_is_415(stack) -> None:
    answer = stack.send("POST", CHAT, b"{}", headers={"content-type": "text/plain"})

    assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")


def test_what_is_not_http_is_400(stack) -> None:
    for server in (stack.gateway, stack.router):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"HELO example.org\r\n\r\n")
            said = b"".join(iter(lambda client=client: client.recv(4096), b""))
        assert said.startswith(b"HTTP/1.1 400")
        assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["code"] == "malformed_request"
