"""What a run without output tokens tells about a step and about the answers, and what follows for heavier load."""

from __future__ import annotations

import json
from importlib import resources

import numpy as np
import pytest

from reference.engine import StepCost
from sim.fidelity.closed_loop import fly_arrivals
from sim.fidelity.saturation import MOST_TOKENS, SETTINGS, Run, fit, saturations


@pytest.mark.parametrize("per_sequence", [1e-4, 4e-4])
def test_a_run_whose_answers_often_hit_the_limit_gives_its_step_cost_and_lengths_back(per_sequence: float) -> None:
    chance = np.random.default_rng(3)
    tokens = np.where(chance.random(200) < 0.6, MOST_TOKENS, chance.integers(2, MOST_TOKENS, 200))
    sent = np.cumsum(chance.exponential(0.4, 200))
    prompts = np.full(200, 300)
    cost = StepCost.linear(0.004, 1e-5, per_sequence)
    times = fly_arrivals(SETTINGS, cost, sent.tolist(), prompts.tolist(), tokens.tolist())
    run = Run(speed=1, events=tuple(range(200)), sent=sent, input_tokens=prompts, ttft=times.ttft, e2e=times.e2e)

    shape = fit(run)

    assert shape.cost.overhead == pytest.approx(0.004, rel=0.1)
    assert shape.cost.per_sequence == pytest.approx(per_sequence, rel=0.1)
    found = np.array([shape.output_tokens[event] for event in range(200)])
    assert np.median(np.abs(found / tokens - 1)) < 0.02


def test_the_committed_table_has_the_load_curve_that_comes_of_flying_again() -> None:
    committed = json.loads(resources.files("sim.fidelity").joinpath("data/fidelity.json").read_text())["rising_load"]
    found = saturations()

    assert [load.is_fitted for load in found] == [True, False, False, False]
    for load, line in zip(found, committed, strict=True):
        assert line["errors"] == {measure: pytest.approx(load.error(measure), abs=1e-3) for measure in load.seconds}
