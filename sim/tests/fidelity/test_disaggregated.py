"""Prefill and decode apart under closed loop, where the answer is known exactly, and the committed figures again."""

from __future__ import annotations

import json
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.engine import EngineSettings, StepCost
from sim.fidelity.closed_loop import ClosedLoopError, Loop, Times
from sim.fidelity.disaggregated import ScoredApart, lines_apart, predict_apart, score_apart
from sim.fidelity.disaggregated_loop import Ranks, Transfer, fly_disaggregated
from sim.fidelity.disaggregated_rows import read_disaggregated
from sim.fidelity.disaggregated_table import as_json
from sim.fidelity.fitting import shipped
from sim.fidelity.prediction import Predicted

PROMPT, BASE = 0.010, 0.002
FREE = Transfer(seconds_per_token=0.0, latency=0.0)


def settings(seats: int) -> EngineSettings:
    return EngineSettings(max_num_seqs=seats, max_num_batched_tokens=512, max_model_len=512, num_blocks=4000)


def flown(loop: Loop, transfer: Transfer = FREE, *, prefill: int = 1, decode: int = 1, seats: int = 64) -> Times:
    prompts = Ranks(count=prefill, settings=settings(1), cost=StepCost.linear(PROMPT))
    answers = Ranks(count=decode, settings=settings(seats), cost=StepCost.linear(BASE))
    return fly_disaggregated(prompts, answers, transfer, loop)


@given(st.integers(1, 400), st.integers(2, 30), st.integers(1, 6), st.floats(0, 1e-5), st.floats(0, 0.01))
def test_one_client_alone_pays_prompt_transfer_and_a_step_a_token(
    input_tokens: int, output_tokens: int, count: int, per_token: float, latency: float
) -> None:
    loop = Loop(concurrency=1, input_tokens=(input_tokens,) * count, output_tokens=(output_tokens,) * count)

    times = flown(loop, Transfer(seconds_per_token=per_token, latency=latency))

    assert times.ttft == pytest.approx([PROMPT + per_token * input_tokens + latency + BASE] * count)
    assert times.tpot == pytest.approx([BASE] * count)


@given(st.integers(1, 3), st.integers(1, 12))
def test_the_first_rush_goes_through_prefill_one_prompt_a_rank_at_a_time(prefill: int, clients: int) -> None:
    """Nobody decodes long enough to come again meanwhile: the k-th prompt of a rank is computed after k prompts."""
    loop = Loop(concurrency=clients, input_tokens=(8,) * clients, output_tokens=(400,) * clients)

    times = flown(loop, prefill=prefill)

    computed = PROMPT * (np.arange(clients) // prefill + 1)
    assert (np.sort(times.ttft) >= computed).all()
    assert (np.sort(times.ttft) <= computed + 2 * BASE + 1e-9).all(), "a decode step may run when the KV comes"


@given(st.integers(1, 4), st.integers(1, 3), st.lists(st.integers(1, 40), min_size=1, max_size=40), st.integers(1, 3))
def test_every_request_ends_and_littles_law_holds(prefill: int, decode: int, lengths: list[int], seats: int) -> None:
    clients = min(len(lengths), 6)
    loop = Loop(concurrency=clients, input_tokens=(50,) * len(lengths), output_tokens=tuple(lengths))

    times = flown(loop, prefill=prefill, decode=decode, seats=seats)

    assert np.isfinite(times.e2e).all()
    assert np.isfinite(times.ttft).all()
    assert np.isnan(times.tpot).tolist() == [length == 1 for length in lengths]
    assert (times.e2e >= times.ttft).all()


def test_a_link_carries_one_prompt_after_the_other() -> None:
    loop = Loop(concurrency=4, input_tokens=(100,) * 4, output_tokens=(300,) * 4)

    times = flown(loop, Transfer(seconds_per_token=0.001, latency=0.0))

    assert np.diff(np.sort(times.ttft)) == pytest.approx([0.1] * 3, abs=BASE + 1e-9)


def test_what_an_engine_refuses_is_said() -> None:
    with pytest.raises(ClosedLoopError, match="request 0"):
        flown(Loop(concurrency=1, input_tokens=(600,), output_tokens=(2,)))


def test_rows_that_cannot_be_flown_are_counted_by_reason() -> None:
    rows, left_out = read_disaggregated()

    assert len(rows) + sum(left_out.values()) == 174
    assert {row.concurrency for row in rows} >= {36, 3584}
    assert len({(row.ttft, row.tpot) for row in rows}) == len(rows), "no run counts twice"


def test_lines_sum_up_the_errors_of_their_rows() -> None:
    rows, _ = read_disaggregated()
    scored = [
        ScoredApart(row=row, ours=Predicted(ttft=row.ttft * 1.2, tpot=row.tpot * 0.9), bare=Predicted(ttft=1, tpot=1))
        for row in rows
    ]

    whole, *kinds = lines_apart(scored)
    assert whole.count == len(rows) == sum(kind.count for kind in kinds)
    assert whole.ours["ttft"].bias == pytest.approx(0.2)
    assert whole.ours["tpot"].median == pytest.approx(0.1)


def test_the_committed_figures_are_what_comes_of_flying_again() -> None:
    committed = json.loads(resources.files("sim.fidelity").joinpath("data/fidelity.json").read_text())
    rows, _ = read_disaggregated()
    of_kind = [row for row in rows if row.prefill.data_parallel == 8 and row.decode.tensor_parallel == 8]

    found = as_json(score_apart(of_kind, shipped()))["lines"][-1]

    assert found in committed["disaggregated"]["lines"]


def test_a_row_is_flown_alike_each_time() -> None:
    row = min(read_disaggregated()[0], key=lambda row: row.concurrency)
    correction = shipped().by_group[row.group][0].correction

    assert predict_apart(row, correction) == predict_apart(row, correction)
