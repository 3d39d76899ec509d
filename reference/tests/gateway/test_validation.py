"""Validation answers every body: with the model, or with a 400 that names the parameter."""

from __future__ import annotations

from contextlib import nullcontext

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.gateway.usage import UsageWatch, estimate_tokens
from reference.gateway.validation import read_request
from reference.wire.errors import ApiError


def validate(path: str, body: dict) -> str:
    return read_request(path, orjson.dumps(body))["model"]


PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/classify"]
values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "nobody"]), "content": values}), max_size=3
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "model": st.just("tiny") | values,
        "messages": messages | values,
        "prompt": values,
        "input": values,
        "temperature": values,
        "n": values,
        "max_tokens": values,
        "stop": values,
        "stream": values,
        "stream_options": values,
        "logit_bias": values,
        "unknown": values,
    },
)


@settings(deadline=None)
@given(path=st.sampled_from(PATHS), body=bodies)
def test_any_body_is_taken_or_refused_with_its_parameter(path: str, body: dict) -> None:
    try:
        model, refused = validate(path, body), None
    except ApiError as error:
        model, refused = None, error

    if refused is None:
        assert model == body["model"]
        assert estimate_tokens(path, body) >= 1
    else:
        assert refused.status == 400
        assert refused.param is not None
        assert refused.param.partition("[")[0].partition(".")[0] in {*body, "model", "messages", "prompt", "input"}


@pytest.mark.parametrize("prompt", ["text", ["a", "b"], [1, 2], [[1], [2, 3]]])
def test_every_shape_of_a_prompt_is_taken(prompt) -> None:
    assert validate("/v1/completions", {"model": "tiny", "prompt": prompt}) == "tiny"
    assert validate("/v1/embeddings", {"model": "tiny", "input": prompt}) == "tiny"


@pytest.mark.parametrize(
    ("number", "whole"),
    [
        ("7", True),
        ("7.0", True),
        ("7.5", False),
        ("1e-42", False),
        ("true", False),
        ('"7"', False),
        (f"{2**63 - 1}", True),
        (f"{2**63}", False),
        (f"-{2**63}", True),
        (f"-{2**63 + 1}", False),
    ],
)
def test_whole_numbers_are_those_of_json_to_the_last_digit(number: str, whole: bool) -> None:
    raw = b'{"model": "tiny", "prompt": "x", "seed": %s}' % number.encode()
    with nullcontext() if whole else pytest.raises(ApiError, match="seed is"):
        read_request("/v1/completions", raw)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"n": 0}, "n is 0; expected a whole number from 1 to 128"),
        ({"temperature": 3}, "temperature is 3; expected less than or equal to 2"),
        ({"user": None}, "user is null; expected a valid string"),
        ({"messages": [{"role": "x"}]}, "messages[0].role is 'x'; expected one of 'developer', 'system', "),
        ({"messages": [{"content": "x"}]}, "messages[0].role is missing; expected a value"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]},
            "messages[0].content[0].text is 7",
        ),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name is missing"),
        ({"tool_choice": "fly"}, "tool_choice is 'fly'; expected 'none', 'auto' or 'required' or an object"),
    ],
)
def test_a_refusal_says_what_there_is_and_what_was_expected(change: dict, told: str) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], **change}
    with pytest.raises(ApiError) as refused:
        validate("/v1/chat/completions", body)

    assert refused.value.message.startswith(told)
    assert refused.value.message.startswith(str(refused.value.param))


def test_a_refusal_of_something_long_is_short() -> None:
    with pytest.raises(ApiError) as refused:
        validate("/v1/completions", {"model": "tiny", "prompt": ["x" * 10_000, 7]})

    assert len(refused.value.message) < 200


def test_fields_that_we_do_not_know_pass() -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "ignore_eos": True, "min_tokens": 3}

    assert validate("/v1/chat/completions", body) == "tiny"


@given(cuts=st.lists(st.integers(0, 400), max_size=8))
def test_usage_is_read_from_the_end_in_whatever_pieces_it_comes(cuts: list[int]) -> None:
    raw = b'data: {"choices":[{"delta":{"content":"\\"prompt_tokens\\": 9"}}]}\n\n' * 3
    raw += b'data: {"choices":[],"usage":{"prompt_tokens": 12,"completion_tokens":34,"total_tokens":46}}\n\n'
    raw += b"data: [DONE]\n\n"
    watch, start = UsageWatch(), 0
    for cut in [*sorted({min(cut, len(raw)) for cut in cuts}), len(raw)]:
        watch.feed(raw[start:cut])
        start = cut

    assert watch.tokens() == (12, 34)


def test_an_answer_without_usage_says_nothing() -> None:
    watch = UsageWatch()
    watch.feed(b"data: [DONE]\n\n")

    assert watch.tokens() == (None, None)
