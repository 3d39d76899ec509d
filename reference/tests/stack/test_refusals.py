"""Requests that are refused: OpenAI's error object for every one of them, with the parameter at fault."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def chain(shared_chain):
    return shared_chain


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 7}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": "many"}, "max_completion_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"stop": [1]}, "stop[0]"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"user": None}, "user"),
        ({"logit_bias": []}, "logit_bias"),
    ],
)
async def test_a_wrong_value_is_refused_with_its_parameter(chain, change, param) -> None:
    async with chain.ask(**change) as answer:
        error = (await answer.json())["error"]

    assert answer.status == 400
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert error["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/v1/nothing", 404),
        ("GET", "/", 404),
        ("GET", "/v1/models/unknown", 404),
    ],
)
async def test_a_wrong_place_or_method_is_an_error_object(chain, method, path, status) -> None:
    for server in (chain.gateway, chain.router) if "models/" not in path else (chain.gateway,):
        async with chain.client.request(method, server + path, headers=chain.headers()) as answer:
            error = (await answer.json())["error"]
        assert answer.status == status
        assert {"message", "type", "param", "code"} == error.keys()
        assert (status != 405) or "allow" in answer.headers


async def test_an_unknown_model_is_404(chain) -> None:
    async with chain.ask(model="gpt-none") as answer:
        assert answer.status == 404
        error = (await answer.json())["error"]
    assert (error["param"], error["code"]) == ("model", "model_not_found")


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'{"model": NaN}', b"\xff\xfe", b'"text"'])
async def test_a_body_that_is_no_json_object_is_400(chain, raw) -> None:
    for server in (chain.gateway, chain.router):
        headers = chain.headers(content_type="application/json")
        async with chain.client.post(f"{server}/v1/chat/completions", data=raw, headers=headers) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]["code"] == "invalid_json"


async def test_another_content_type_is_415(chain) -> None:
    headers = chain.headers(content_type="text/plain")
    async with chain.client.post(f"{chain.gateway}/v1/completions", data=b"{}", headers=headers) as answer:
        assert answer.status == 415
        assert (await answer.json())["error"]["code"] == "unsupported_media_type"


@pytest.mark.parametrize("given", [None, "Bearer wrong", "Bearer ", "Basic abc", "wt-red-secret"])
async def test_without_a_valid_key_nothing_is_answered(chain, given) -> None:
    headers = {"authorization": given} if given else {}
    for method, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/v1/models/tiny")):
        async with chain.client.request(method, chain.gateway + path, json=chain.body(), headers=headers) as answer:
            assert answer.status == 401
            assert (await answer.json())["error"]["type"] == "authentication_error"
