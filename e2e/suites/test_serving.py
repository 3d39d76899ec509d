"""What a client of the stack gets, through load balancer, ingress and TLS."""

import json

import pytest

from e2e.cluster.place import PAGE_HOST
from e2e.cluster.stack import MODEL
from e2e.suites.traffic import ask

EMBEDDER = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture
def call(door):
    """Make one request; returns status, headers and body."""

    def one(method, path, body=None, *, key=None, host=None, headers=None):
        connection = door.connect(host) if host else door.connect()
        key = door.place.api_key if key is None else key
        sent = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
        connection.request(method, path, json.dumps(body) if body is not None else None, sent | (headers or {}))
        answer = connection.getresponse()
        told = answer.read().decode()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, told

    return one


def test_every_model_is_listed(call) -> None:
    status, _, told = call("GET", "/v1/models")

    assert status == 200
    assert {MODEL, EMBEDDER, "Qwen/Qwen3-8B"} <= {model["id"] for model in json.loads(told)["data"]}


@pytest.mark.parametrize("model", [MODEL, "Qwen/Qwen3-8B"])
def test_a_chat_is_answered_whole_and_as_a_stream(call, door, model) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
    status, headers, told = call("POST", "/v1/chat/completions", body, headers={"x-request-id": "suite-1"})

    assert status == 200
    assert json.loads(told)["usage"]["completion_tokens"] == 5
    assert headers["x-request-id"] == "suite-1"
    assert ask(door, model=model) == (200, "", "")


def test_texts_are_embedded(call) -> None:
    status, _, told = call("POST", "/v1/embeddings", {"model": EMBEDDER, "input": ["one", "two"]})

    assert status == 200
    assert len(json.loads(told)["data"]) == 2


@pytest.mark.parametrize(("key", "status", "code"), [("wrong", 401, "invalid_api_key"), ("", 401, "missing_api_key")])
def test_without_a_valid_key_there_is_no_answer(call, key, status, code) -> None:
    told = call("POST", "/v1/chat/completions", {"model": MODEL, "messages": []}, key=key)

    assert told[0] == status
    assert json.loads(told[2])["error"]["code"] == code


def test_an_unknown_model_is_404(call) -> None:
    body = {"model": "none", "messages": [{"role": "user", "content": "hello"}]}
    status, _, told = call("POST", "/v1/chat/completions", body)

    assert (status, json.loads(told)["error"]["code"]) == (404, "model_not_found")


def test_the_page_is_served_with_a_strict_policy(call) -> None:
    status, headers, told = call("GET", "/", host=PAGE_HOST, key="")

    assert status == 200
    assert "<html" in told
    assert "default-src" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]


def test_the_pages_host_has_the_api_too(call) -> None:
    assert call("GET", "/v1/models", host=PAGE_HOST)[0] == 200
