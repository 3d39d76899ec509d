"""The scoreboard's arithmetic by hand, and the committed table against rows flown again."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources

import pytest

from sim.fidelity.correction import Correction, Inherited
from sim.fidelity.fitting import shipped
from sim.fidelity.layer_runs import RUNS, LayerRun, results
from sim.fidelity.prediction import Predicted
from sim.fidelity.rows import read_rows, why_not
from sim.fidelity.scoreboard import BARS, Scored, ranking, score, summary
from sim.fidelity.table import as_json, meets

ROWS, _ = read_rows()
FLOWN_AGAIN = ("vllm", "h200-sxm", "Llama-3.1-70B")
"""Engine, GPU and family of the rows that the committed table is held against here: all would take a minute."""


def scored(ttft: float, tpot: float, **changed: object) -> Scored:
    row = replace(ROWS[0], ttft=0.2, tpot=0.02, output_tokens=11, **changed)
    inherited = Inherited(correction=Correction(), held_out="GPU", relatives=())
    ours = Predicted(ttft=ttft, tpot=tpot)
    return Scored(row=row, ours=ours, bare=ours, peer=None, inherited=inherited)


def test_errors_are_predicted_over_measured_less_one() -> None:
    one = scored(0.25, 0.018)

    assert one.error("ttft") == pytest.approx(0.25)
    assert one.error("tpot") == pytest.approx(-0.1)
    assert one.error("e2e") == pytest.approx((0.25 + 0.18) / (0.2 + 0.2) - 1)
    assert one.error("ttft", "peer") != one.error("ttft", "peer"), "no prediction is no error"


def test_a_summary_is_median_and_tail_of_absolute_errors_and_the_median_of_signed_ones() -> None:
    found = summary([-0.1, -0.2, 0.3, float("nan"), 0.0, -0.4])

    assert (found.count, found.median, found.bias) == (5, pytest.approx(0.2), pytest.approx(-0.1))
    assert found.p90 == pytest.approx(0.36)
    assert summary([]).count == 0


def test_a_contest_is_won_by_picking_what_was_measured_best() -> None:
    good = scored(0.1, 0.01, tensor_parallel=2, data_parallel=1, concurrency=8)
    poor = scored(0.1, 0.01, tensor_parallel=1, data_parallel=1, concurrency=1)
    poor_by_us = replace(poor, ours=Predicted(ttft=0.1, tpot=0.001))

    assert ranking([good, poor], "ours").same == 1
    fooled = ranking([good, replace(poor_by_us, ours=Predicted(ttft=0.0, tpot=0.0005))], "ours")
    assert (fooled.contests, fooled.same) == (1, 0)
    assert fooled.median_loss == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"tp_size": "16"}, "more GPUs than a node has"),
        ({"model_path": "deepseek-ai/DeepSeek-R1", "moe_tp_size": "3"}, "contradicts its number of GPUs"),
        ({}, None),
    ],
)
def test_a_row_that_cannot_be_flown_says_why(changed: dict[str, str], reason: str | None) -> None:
    fields = {"mode": "agg", "tp_size": "2", "attention_dp_size": "", "model_path": "meta-llama/Llama-3.1-70B"}
    fields |= {"moe_tp_size": "", "moe_ep_size": "", **changed}
    said = why_not(fields)

    assert (said is None) == (reason is None)
    assert reason is None or reason in str(said)


def test_the_committed_table_is_what_comes_of_flying_again() -> None:
    committed = json.loads(resources.files("sim.fidelity").joinpath("data/fidelity.json").read_text())
    chosen = [row for row in ROWS if row.group[:3] == FLOWN_AGAIN]
    board = score(chosen, shipped())

    groups = [line for line in as_json(board, [], [], [])["lines"] if line["what"].startswith(" ".join(FLOWN_AGAIN))]
    assert groups
    for line in groups:
        [known] = [one for one in committed["lines"] if one["what"] == line["what"]]
        assert known["rows"] == line["rows"]
        for measure, figures in line["ours"].items():
            assert figures == pytest.approx(known["ours"][measure], abs=2e-3), (line["what"], measure)


def test_the_committed_table_says_which_bars_are_met() -> None:
    committed = json.loads(resources.files("sim.fidelity").joinpath("data/fidelity.json").read_text())
    [held_out] = [line for line in committed["lines"] if line["what"] == "vllm, GPU held out"]

    assert held_out["ours"]["tpot"]["median"] <= BARS["tpot"]
    for line in committed["lines"]:
        assert {"ours", "bare", "peer"} <= line.keys()


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.card)
def test_a_whole_run_with_the_layer_times_of_its_card_is_within_two_per_cent(run: LayerRun) -> None:
    bare, _ = results(run)

    assert meets(bare), bare
