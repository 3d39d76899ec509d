"""One replica under closed loop and at recorded arrivals, where the answer is known exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.engine import EngineSettings, StepCost
from sim.fidelity.closed_loop import ClosedLoopError, Loop, fly, fly_arrivals

SETTINGS = EngineSettings(max_num_seqs=8, max_num_batched_tokens=512, max_model_len=4096, num_blocks=4000)
BASE = 0.010
COST = StepCost.linear(BASE)


@given(st.integers(1, 500), st.integers(2, 40), st.integers(1, 12))
def test_one_client_alone_pays_a_step_a_token(input_tokens: int, output_tokens: int, count: int) -> None:
    lengths = {"input_tokens": (input_tokens,) * count, "output_tokens": (output_tokens,) * count}
    times = fly(SETTINGS, COST, Loop(concurrency=1, **lengths))

    assert times.ttft == pytest.approx([BASE] * count)
    assert times.tpot == pytest.approx([BASE] * count)
    assert times.e2e == pytest.approx([BASE * output_tokens] * count)


@given(st.integers(1, 8), st.integers(1, 30), st.integers(1, 4))
def test_throughput_and_latency_keep_littles_law(concurrency: int, output_tokens: int, rounds: int) -> None:
    """As many clients as seats, all alike: each round takes as many steps as an answer has tokens."""
    count = concurrency * rounds
    loop = Loop(concurrency=concurrency, input_tokens=(8,) * count, output_tokens=(output_tokens,) * count)

    times = fly(SETTINGS, COST, loop)

    took = times.e2e.sum() / concurrency
    assert times.e2e.mean() * (count / took) == pytest.approx(concurrency)
    assert took == pytest.approx(rounds * output_tokens * BASE)


@given(st.floats(0, 0.05), st.lists(st.integers(1, 60), min_size=1, max_size=12))
def test_time_before_the_queue_counts_towards_the_first_token(request_seconds: float, lengths: list[int]) -> None:
    inputs = [10] * len(lengths)
    arrivals = [float(number) for number in range(len(lengths))]

    plain = fly_arrivals(SETTINGS, COST, arrivals, inputs, lengths)
    later = fly_arrivals(SETTINGS, COST, arrivals, inputs, lengths, request_seconds)

    assert later.ttft - plain.ttft == pytest.approx([request_seconds] * len(lengths), abs=1e-9)
    assert np.isnan(later.tpot).tolist() == [length == 1 for length in lengths]


def test_lengths_are_drawn_between_their_bounds_and_alike_for_one_seed() -> None:
    drawn = Loop.random(4, (1000, 100), 0.8, per_client=50, seed=3)

    assert drawn == Loop.random(4, (1000, 100), 0.8, per_client=50, seed=3)
    assert 800 <= min(drawn.input_tokens) <= max(drawn.input_tokens) <= 1000
    assert 80 <= min(drawn.output_tokens) <= max(drawn.output_tokens) <= 100
    assert len(drawn.input_tokens) == 200


def test_what_the_engine_refuses_cannot_have_been_measured() -> None:
    with pytest.raises(ClosedLoopError, match="request 0"):
        fly(SETTINGS, COST, Loop(concurrency=1, input_tokens=(100_000,), output_tokens=(5,)))
