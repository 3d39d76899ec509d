"""The emulated worker: the engine's times on the clock, without drift; answers as long as asked; faults as exact."""

from __future__ import annotations

import asyncio
import json
from math import isclose, sqrt

import looptime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.engine import Engine, EngineSettings, Sequence, StepCost
from reference.wire.errors import ApiError
from reference.worker.emulated.answers import Frames, embedding
from reference.worker.emulated.engine_loop import EngineLoop
from reference.worker.emulated.faults import Faults
from reference.worker.emulated.requests import read_ask

COST = StepCost.linear(0.007, per_sequence=0.0003)


def ticks_of(num_tokens: int, lateness: float) -> list[float]:
    """Return when each token came, on a clock whose timers are late."""
    loop = looptime.new_event_loop(start=0.0, resolution=1e-9)

    async def run() -> list[float]:
        worker = EngineLoop(Engine(EngineSettings(leaping=False), COST), loop.time)
        task = asyncio.create_task(worker.run())
        tokens = worker.submit(Sequence("r", 16, num_tokens))
        assert isinstance(tokens, asyncio.Queue)
        times = []
        while True:
            emission = await tokens.get()
            times.append(loop.time())
            if emission.is_finished:
                task.cancel()
                return times

    original = loop.call_at
    loop.call_at = lambda when, *rest, **more: original(when + lateness, *rest, **more)  # type: ignore[method-assign]
    try:
        return loop.run_until_complete(run())
    finally:
        loop.close()


@settings(max_examples=20, deadline=None)
@given(lateness=st.floats(0.0, 0.003))
def test_lateness_of_timers_does_not_add_up(lateness: float) -> None:
    times = ticks_of(200, lateness)

    assert isclose(times[-1], 200 * 0.0073, abs_tol=lateness + 2e-3)


def test_an_aborted_sequence_brings_no_more_tokens_and_frees_its_seat() -> None:
    loop = looptime.new_event_loop(start=0.0)

    async def run() -> None:
        worker = EngineLoop(Engine(EngineSettings(leaping=False), COST), loop.time)
        task = asyncio.create_task(worker.run())
        tokens = worker.submit(Sequence("r", 16, 1000))
        await asyncio.sleep(0.05)
        worker.abort("r")
        num_tokens = tokens.qsize()
        await asyncio.sleep(0.05)
        assert tokens.qsize() == num_tokens
        assert worker.engine.num_running == 0
        task.cancel()

    loop.run_until_complete(run())
    loop.close()


@given(share=st.floats(0.0, 1.0), count=st.integers(1, 300))
def test_a_share_of_errors_is_met_to_the_request(share: float, count: int) -> None:
    faults = Faults(error_share=share)

    failed = sum(faults.takes_error() for _ in range(count))

    assert abs(failed - share * count) <= 1


def chat(**more: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": "a b c"}], **more}


@given(max_tokens=st.integers(1, 3000))
def test_with_ignore_eos_the_answer_is_as_long_as_asked(max_tokens: int) -> None:
    for body in (chat(max_tokens=max_tokens, ignore_eos=True), chat(max_completion_tokens=max_tokens, min_tokens=5000)):
        ask = read_ask("r", body, is_chat=True, block_size=16)
        assert (ask.sequence.input_tokens, ask.sequence.output_tokens) == (3, max_tokens)


@given(text=st.text("ab ", min_size=1, max_size=20).filter(str.strip), limit=st.integers(1, 400))
def test_without_it_the_length_depends_on_the_prompt_only(text: str, limit: int) -> None:
    asks = [read_ask(name, {"prompt": text, "max_tokens": limit}, is_chat=False, block_size=16) for name in "xy"]

    assert asks[0].sequence.output_tokens == asks[1].sequence.output_tokens <= limit


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        (chat(max_tokens=0.5), "max_tokens"),
    ],
)
def test_what_the_engine_cannot_read_is_a_400(body: dict[str, object], param: str) -> None:
    with pytest.raises(ApiError) as refused:
        read_ask("r", body, is_chat=True, block_size=16)
    assert (refused.value.status, refused.value.param) == (400, param)


def test_an_empty_prompt_is_the_token_that_begins_a_text() -> None:
    assert read_ask("r", {"prompt": ""}, is_chat=False, block_size=16).sequence.input_tokens == 1


@pytest.mark.parametrize("limit", [0, -1, None])
def test_a_bound_below_one_is_none(limit: int | None) -> None:
    asks = [read_ask("r", chat(**more), is_chat=True, block_size=16) for more in ({}, {"max_tokens": limit})]

    assert asks[0].sequence.output_tokens == asks[1].sequence.output_tokens


def test_frames_are_openais() -> None:
    frames = Frames("chatcmpl-1", "tiny", 1, is_chat=True)
    told = [
        json.loads(frame.removeprefix(b"data: ")) for frame in (frames.first(), frames.token(0), frames.last("stop"))
    ]

    assert [chunk["choices"][0]["finish_reason"] for chunk in told] == [None, None, "stop"]
    assert told[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert told[1]["choices"][0]["delta"] == {"content": "air"}
    assert {chunk["object"] for chunk in told} == {"chat.completion.chunk"}


@given(tokens=st.lists(st.integers(0, 2**63), max_size=30))
def test_an_embedding_has_length_one_and_is_the_same_each_time(tokens: list[int]) -> None:
    vector = embedding(tokens)

    assert vector == embedding(tokens)
    length = sqrt(sum(part * part for part in vector))
    assert isclose(length, 1.0) or length == 0.0
