"""A fit from requests: it finds the cost that made them, says how sure it is, and is judged on what it did not see."""

from __future__ import annotations

import numpy as np
import pytest

from reference.engine import EngineSettings, StepCost
from sim.experiment.errors import InputError
from sim.fidelity.calibration import fit_requests
from sim.fidelity.closed_loop import fly_arrivals
from sim.fidelity.observed import Observed
from sim.fidelity.regression import COEFFICIENTS

SETTINGS = EngineSettings(max_num_seqs=32, max_num_batched_tokens=2048, max_model_len=8192, num_blocks=8000)
TRUE = {"overhead": 0.012, "per_prefill_token": 6e-5, "per_sequence": 2e-4, "per_context_token": 2e-7}
REQUEST_SECONDS = 0.004


def observed(count: int, *, noise: float = 0.0, seed: int = 1) -> Observed:
    """Requests as one replica of the true cost serves them."""
    chance = np.random.default_rng(seed)
    sent = np.cumsum(chance.exponential(0.35, count))
    inputs, outputs = chance.integers(20, 3000, count), chance.integers(2, 120, count)
    blurred = 1 + noise * chance.standard_normal(count)
    return served(sent, inputs, outputs, blurred)


def served(sent: np.ndarray, inputs: np.ndarray, outputs: np.ndarray, blurred: np.ndarray | float = 1.0) -> Observed:
    cost = StepCost.linear(*TRUE.values())
    times = fly_arrivals(SETTINGS, cost, sent.tolist(), inputs.tolist(), outputs.tolist(), REQUEST_SECONDS)
    return Observed(
        sent=sent,
        input_tokens=inputs,
        output_tokens=outputs,
        ttft=times.ttft * blurred,
        tpot=times.tpot * blurred,
        cached_tokens=np.zeros(len(sent), dtype=int),
    )


def test_a_run_without_noise_gives_its_cost_back() -> None:
    found = fit_requests(observed(200), SETTINGS)

    assert found.values == pytest.approx(TRUE | {"request_seconds": REQUEST_SECONDS}, rel=0.01)
    assert found.held_out["tpot"].median < 0.001
    assert found.held_out["ttft"].median < 0.001
    assert found.num_rows == 200


def test_noise_is_told_by_the_uncertainty_and_the_truth_lies_within_two_of_it() -> None:
    quiet, noisy = fit_requests(observed(200), SETTINGS), fit_requests(observed(200, noise=0.1), SETTINGS)

    assert set(noisy.uncertainty) == set(COEFFICIENTS)
    assert noisy.uncertainty["overhead"] > quiet.uncertainty["overhead"]
    for name, value in TRUE.items():
        assert abs(noisy.values[name] - value) < 2 * noisy.uncertainty[name], name


def test_what_is_judged_was_not_fitted() -> None:
    """Spoiling every other request, those not fitted, changes their errors and not the fit."""
    given = observed(200)
    spoilt = given.ttft.copy()
    spoilt[1::2] *= 3
    other = Observed(
        sent=given.sent,
        input_tokens=given.input_tokens,
        output_tokens=given.output_tokens,
        ttft=spoilt,
        tpot=given.tpot,
        cached_tokens=given.cached_tokens,
    )
    plain, judged = fit_requests(given, SETTINGS), fit_requests(other, SETTINGS)

    assert judged.held_out["ttft"].median > 0.5
    assert judged.fitted["ttft"].median < 0.3
    assert plain.held_out["ttft"].median < 0.05


def test_a_run_that_never_idles_does_not_tell_what_a_request_waits() -> None:
    """All requests at once: every first token was waited for behind others."""
    given = observed(200)
    crowd = served(np.arange(200) * 1e-3, given.input_tokens, given.output_tokens)

    found = fit_requests(crowd, SETTINGS)

    assert "request_seconds" not in found.values
    assert any("hardly a request found the engine idle" in doubt for doubt in found.doubts)
    assert found.cost.overhead == pytest.approx(TRUE["overhead"], rel=0.1)


@pytest.mark.parametrize(("count", "said"), [(0, "0 requests succeeded"), (19, "expected at least 20")])
def test_too_few_requests_are_told(count: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        fit_requests(observed(count) if count else _none(), SETTINGS)


def _none() -> Observed:
    empty = np.array([])
    return Observed(sent=empty, input_tokens=empty, output_tokens=empty, ttft=empty, tpot=empty, cached_tokens=empty)
