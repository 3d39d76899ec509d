"""How a stream ended is seen whatever the pieces it came in, and no text of a model can feign it."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from reference.wire.sse import DONE, StreamEnd, error_event, event


def seen(stream: bytes, cuts: list[int]) -> tuple[bool, bool]:
    end, start = StreamEnd(), 0
    for cut in sorted({min(cut, len(stream)) for cut in cuts} | {len(stream)}):
        if cut > start:
            end.feed(stream[start:cut])
        start = cut
    return end.is_done, end.is_error


texts = st.text(st.sampled_from('data: [DONE]{"error"}\n\\'), max_size=60)
cuts = st.lists(st.integers(0, 400), max_size=20)


@given(text=texts, cuts=cuts)
def test_a_models_text_is_never_taken_for_the_end(text: str, cuts: list[int]) -> None:
    assert seen(event({"choices": [{"delta": {"content": text}}]}), cuts) == (False, False)


@given(text=texts, cuts=cuts, separator=st.sampled_from([b"\n\n", b"\r\n\r\n"]))
def test_the_end_is_seen_in_whatever_pieces_it_comes(text: str, cuts: list[int], separator: bytes) -> None:
    body = event({"choices": [{"delta": {"content": text}}]}).replace(b"\n\n", separator)

    assert seen(body + DONE.replace(b"\n\n", separator), cuts) == (True, False)
    assert seen(DONE, cuts) == (True, False)


@given(text=texts, cuts=cuts)
def test_an_error_event_is_seen_in_whatever_pieces_it_comes(text: str, cuts: list[int]) -> None:
    body = event({"choices": [{"delta": {"content": text}}]})

    assert seen(body + error_event(text, "upstream_lost"), cuts) == (False, True)
    assert seen(error_event(text, "upstream_lost") + DONE, cuts) == (True, True)


def test_an_error_event_is_one_line_that_ends_nothing() -> None:
    raw = error_event("two\nlines", "upstream_lost")

    assert raw.count(b"\n") == 2
    told = orjson.loads(raw.removeprefix(b"data: "))["error"]
    assert told == {"message": "two\nlines", "type": "server_error", "param": None, "code": "upstream_lost"}
