"""Answers with more than one choice of plain words: n, echo, stop, log probabilities, JSON, and forced tools."""

from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.wire.errors import ApiError
from reference.worker.emulated.choice_frames import ChoiceFrames
from reference.worker.emulated.choices import Choice, has_more, read_choices
from reference.worker.emulated.instances import instance_of

TOOL = {"type": "function", "function": {"name": "fly", "parameters": {"properties": {"to": {"type": "string"}}}}}
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
keywords = ["type", "enum", "anyOf", "items", "properties", "minItems", "minimum", "$ref", "const"]
schemas = st.dictionaries(st.sampled_from(keywords), anything | st.sampled_from(["object", "array", "#", "#/items"]))


def chat(**more: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": "a b c"}], **more}


def choices_of(body: dict[str, object], *, is_chat: bool = True) -> list[Choice]:
    assert has_more(body, is_chat=is_chat)
    return read_choices("r", body, is_chat=is_chat, block_size=16)


@pytest.mark.parametrize("body", [chat(), chat(n=1, tools=[TOOL], logprobs=False, response_format={"type": "text"})])
def test_an_ordinary_request_is_one_choice_of_plain_words(body: dict[str, object]) -> None:
    assert not has_more(body, is_chat=True)


@given(n=st.integers(2, 5), prompts=st.lists(st.text("ab ", max_size=5), min_size=1, max_size=4))
def test_each_prompt_is_answered_n_times(n: int, prompts: list[str]) -> None:
    found = choices_of({"prompt": prompts, "n": n, "echo": True}, is_chat=False)

    assert [choice.index for choice in found] == list(range(n * len(prompts)))
    assert [choice.echo for choice in found] == [prompt for prompt in prompts for _ in range(n)]


@given(limit=st.integers(1, 60), mark=st.sampled_from(["drag", "lift dr", " ", "nowhere"]))
def test_nothing_is_said_from_a_stop_sequence_on(limit: int, mark: str) -> None:
    (plain,) = choices_of(chat(max_tokens=limit, ignore_eos=True, stop="nowhere at all"))
    (stopped,) = choices_of(chat(max_tokens=limit, ignore_eos=True, stop=[mark]))

    said, kept = "".join(plain.pieces), "".join(stopped.pieces)
    assert kept == said.partition(mark)[0]
    assert stopped.reason == ("stop" if mark in said else "length")


@pytest.mark.parametrize("forced", ["required", {"type": "function", "function": {"name": "fly"}}])
def test_a_tool_that_has_to_be_called_is_called_with_arguments_of_its_schema(forced: object) -> None:
    (choice,) = choices_of(chat(tools=[TOOL], tool_choice=forced))

    whole = ChoiceFrames({}, is_chat=True, num_alternatives=None).whole(choice)
    (call,) = whole["message"]["tool_calls"]
    assert (whole["finish_reason"], whole["message"]["content"], call["function"]["name"]) == (
        "tool_calls",
        None,
        "fly",
    )
    assert json.loads(call["function"]["arguments"]).keys() == {"to"}


def test_an_answer_by_a_schema_is_json_of_it() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "of": {"$ref": "#/$defs/s"}}}
    schema |= {"$defs": {"s": {"enum": ["x", "y"]}}}
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    (choice,) = choices_of(chat(response_format=form))

    assert json.loads("".join(choice.pieces)) == {"n": 1, "of": "x"}


@given(schema=schemas)
def test_anything_taken_for_a_schema_gives_some_json(schema: dict[str, object]) -> None:
    value = instance_of(schema, "words")

    assert json.loads(json.dumps(value)) == value


values = st.integers() | st.text(max_size=3)
plain_schemas = st.one_of(
    st.sampled_from([{}, *({"type": kind} for kind in ("string", "number", "boolean", "null", ["string", "null"]))]),
    st.integers(-5, 50).map(lambda least: {"type": "integer", "minimum": least}),
    st.lists(values, min_size=1, max_size=3).map(lambda choices: {"enum": choices}),
    values.map(lambda value: {"const": value}),
)
sound_schemas = st.recursive(
    plain_schemas,
    lambda inner: st.one_of(
        st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3).map(
            lambda fields: {
                "type": "object",
                "properties": fields,
                "required": [*fields],
                "additionalProperties": False,
            }
        ),
        st.tuples(inner, st.integers(0, 3)).map(lambda of: {"type": "array", "items": of[0], "minItems": of[1]}),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
    ),
    max_leaves=8,
)


@given(schema=sound_schemas)
def test_a_sound_schema_gets_an_instance_of_it(schema: dict[str, object]) -> None:
    jsonschema.validate(instance_of(schema, "words"), schema)


@given(count=st.integers(0, 20), limit=st.integers(1, 30))
def test_each_token_has_its_log_probability_and_as_many_others_as_asked(count: int, limit: int) -> None:
    (choice,) = choices_of(chat(logprobs=True, max_tokens=limit, ignore_eos=True))
    told = ChoiceFrames({}, is_chat=True, num_alternatives=count).whole(choice)["logprobs"]["content"]

    assert [entry["token"] for entry in told] == list(choice.pieces)
    assert all(len({other["token"] for other in entry["top_logprobs"]}) == count for entry in told)
    assert all(entry["logprob"] < 0 for entry in told)


def test_what_streams_is_what_is_said_whole() -> None:
    (choice,) = choices_of({"prompt": "a b", "logprobs": 2, "max_tokens": 5, "echo": True}, is_chat=False)
    frames = ChoiceFrames({}, is_chat=False, num_alternatives=2)
    streamed = [frames.first(choice), *(frames.token(choice, place) for place in range(5)), frames.last(choice)]

    told = [json.loads(frame.removeprefix(b"data: "))["choices"][0] for frame in streamed]
    whole = frames.whole(choice)
    assert "".join(chunk["text"] for chunk in told) == whole["text"]
    tokens = [token for chunk in told if chunk["logprobs"] for token in chunk["logprobs"]["tokens"]]
    assert tokens == whole["logprobs"]["tokens"]


def test_who_asks_a_worker_directly_is_told_of_a_body_that_is_none_of_openais() -> None:
    with pytest.raises(ApiError, match="not of OpenAI's form"):
        read_choices("r", chat(tools=[{"type": "function"}], tool_choice="required"), is_chat=True, block_size=16)
