"""Whatever a worker answers, clients get OpenAI's error object."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.wire.errors import ApiError, error_object, normalised

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["error", "message", "type", "param", "code", "detail"]), inner, max_size=5)
    ),
    max_leaves=10,
)


@given(status=st.integers(400, 599), body=json_values.map(orjson.dumps) | st.binary(max_size=50))
def test_every_body_becomes_an_error_object(status: int, body: bytes) -> None:
    error = orjson.loads(normalised(status, body))["error"]

    assert {"message", "type", "param", "code"} <= error.keys()
    assert isinstance(error["message"], str)
    assert isinstance(error["code"], str | None)


@given(message=st.text(max_size=30), code=st.none() | st.text(max_size=10), param=st.none() | st.text(max_size=10))
def test_an_error_object_passes_unchanged(message: str, code: str | None, param: str | None) -> None:
    body = orjson.dumps(error_object(404, message, code=code, param=param))

    assert normalised(404, body) == body


@pytest.mark.parametrize(
    ("status", "body", "message", "kind"),
    [
        (401, b'{"error":"Unauthorized"}', "Unauthorized", "authentication_error"),
        (400, b'{"object":"error","message":"no","type":"BadRequestError","code":400}', "no", "invalid_request_error"),
        (
            404,
            b'{"error":{"message":"gone","type":"NotFound","param":null,"code":404}}',
            "gone",
            "not_found_error",
        ),
        (503, b'{"error":"engine is dead"}', "engine is dead", "server_error"),
        (422, b'{"detail":"odd"}', "odd", "invalid_request_error"),
        (500, b"Internal Server Error", "Internal Server Error", "server_error"),
        (502, b"", "the model server answered 502", "server_error"),
    ],
)
def test_errors_of_vllm_and_tensorrt_llm_are_normalised(status: int, body: bytes, message: str, kind: str) -> None:
    assert orjson.loads(normalised(status, body))["error"] == {
        "message": message,
        "type": kind,
        "param": None,
        "code": None,
    }


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (59.5, "60")])
def test_retry_after_is_whole_seconds_rounded_up(seconds: float, header: str) -> None:
    assert ApiError(429, "later", retry_after_seconds=seconds).headers == {"retry-after": header}


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
        "The sum of prompt length (5000.0) should not exceed max_num_tokens (4096)",
    ],
)
def test_a_prompt_that_is_too_long_has_the_code_that_clients_look_for(message: str) -> None:
    body = orjson.dumps({"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}})

    assert orjson.loads(normalised(400, body))["error"]["code"] == "context_length_exceeded"
    assert orjson.loads(normalised(500, body))["error"]["code"] is None
