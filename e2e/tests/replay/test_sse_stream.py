"""Laws of reading a stream: how its bytes are cut makes no difference, and nothing is made up."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from e2e.replay.sse import Stream, reason_of

TEXTS = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=8)


def event(payload: object, end: str) -> str:
    return f"data: {json.dumps(payload, ensure_ascii=False)}{end}{end}"


def chat(text: str) -> dict:
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


def read(lines: list[bytes]) -> Stream:
    stream = Stream()
    for at, line in enumerate(lines):
        stream.feed(line, float(at))
    return stream


@given(TEXTS, st.sampled_from(["\n", "\r\n"]), st.lists(st.sampled_from([": ping", "event: x", "id: 7"]), max_size=3))
@settings(max_examples=80, deadline=None)
def test_every_text_counts_once_whatever_stands_between(texts, end, between):
    whole = "".join(f"{noise}{end}{end}" for noise in between).join(["", *(event(chat(t), end) for t in texts), ""])
    stream = read((whole + f"data: [DONE]{end}{end}").encode().splitlines(keepends=True))
    assert stream.chunk_sizes == [len(text) for text in texts]
    assert stream.is_done
    assert stream.error == ""
    assert stream.chunk_times == sorted(stream.chunk_times)


def test_the_role_and_the_usage_are_no_tokens():
    usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    opening = {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
    stream = read([line for payload in (opening, usage) for line in (event(payload, "\n").encode(), b"\n")])
    assert stream.chunk_times == []
    assert stream.usage == (7, 3, 0)


def test_reasoning_tool_calls_and_plain_completions_are_tokens():
    call = {"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]}
    payloads = [{"choices": [{"delta": {"reasoning_content": "hm"}}]}, call, {"choices": [{"text": "plain"}]}]
    stream = read([line for payload in payloads for line in (event(payload, "\n").encode(), b"\n")])
    assert stream.chunk_sizes == [2, 3, 5]


def test_data_over_two_lines_is_one_event():
    stream = read([b'data: {"choices":\n', b'data: [{"delta": {"content": "x"}}]}\n', b"\n"])
    assert stream.chunk_sizes == [1]


def test_an_event_without_its_blank_line_has_not_come():
    assert read([event(chat("x"), "\n").encode().rstrip(b"\n")]).chunk_sizes == []


def test_a_malformed_event_is_an_error_and_the_first_error_stays():
    stream = read([b"data: {oops\n", b"\n", b'data: {"error": "later"}\n', b"\n"])
    assert stream.error == "malformed event"


def test_the_reason_is_what_a_person_would_count_by():
    long = "the prompt has 9,213 tokens and that is " + "much " * 20 + "too long"
    assert reason_of({"error": {"message": "queue full", "code": "overloaded"}}) == "queue full"
    assert reason_of({"error": {"message": long, "code": "context_length_exceeded"}}) == "context_length_exceeded"
    assert reason_of({"error": {"message": long, "code": 400, "type": "BadRequestError"}}) == "BadRequestError"
    assert reason_of({"object": "error", "message": "no such model", "type": "x", "code": 404}) == "no such model"
    assert reason_of({"error": "Unauthorized"}) == "Unauthorized"
    assert reason_of(["what"]) == ""
