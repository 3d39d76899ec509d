"""A comparison finds what is there, and nothing where nothing is."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from sim.experiment.comparison import compare
from sim.experiment.resampling import BlockBootstrap, interval


def verdicts(comparison) -> dict[str, str]:
    return {f"{row.measure} {row.at}".strip(): row.verdict for row in comparison.rows}


@pytest.fixture(scope="module")
def runs(made: SimpleNamespace) -> SimpleNamespace:
    plain = made.record(made.random_rows(600, 1))
    slow = made.record(made.random_rows(600, 1, slower=1.2))
    return SimpleNamespace(plain=plain, slow=slow, scenario=made.scenario())


def test_a_run_is_the_same_as_itself(runs: SimpleNamespace) -> None:
    comparison = compare(runs.plain, runs.plain, runs.scenario, runs.scenario)

    assert comparison.exit_code == 0
    assert set(verdicts(comparison).values()) == {"same", "shown"}
    assert all(row.difference == 0 for row in comparison.rows)


def test_a_slower_run_is_worse_and_a_faster_one_better(runs: SimpleNamespace) -> None:
    worse = compare(runs.plain, runs.slow, runs.scenario, runs.scenario)
    better = compare(runs.slow, runs.plain, runs.scenario, runs.scenario)

    assert worse.exit_code == 1
    assert {verdicts(worse)[f"ttft p{p}"] for p in (50, 90, 95, 99)} == {"worse"}
    assert {verdicts(better)[f"ttft p{p}"] for p in (50, 90, 95, 99)} == {"better"}
    assert better.exit_code == 0


def test_a_change_too_small_to_count_is_no_change(runs: SimpleNamespace) -> None:
    comparison = compare(runs.plain, runs.slow, runs.scenario, runs.scenario, minimal_effect=0.5)

    assert comparison.exit_code == 0
    assert verdicts(comparison)["ttft p50"] == "same"


def test_common_random_numbers_find_what_unpaired_runs_cannot(made: SimpleNamespace, runs: SimpleNamespace) -> None:
    slightly = made.record(made.random_rows(600, 1, slower=1.03))
    elsewhere = replace(slightly, workload_hash="another")

    paired = compare(runs.plain, slightly, runs.scenario, runs.scenario)
    unpaired = compare(runs.plain, elsewhere, runs.scenario, runs.scenario)

    assert verdicts(paired)["ttft p50"] == "worse"
    assert verdicts(unpaired)["ttft p50"] == "unclear"
    assert paired.is_paired
    assert not unpaired.is_paired
    assert unpaired.notes[0].startswith("Not paired")


def test_lost_requests_are_worse_even_where_latency_is_better(made: SimpleNamespace, runs: SimpleNamespace) -> None:
    rows = made.random_rows(600, 1)
    for at in range(0, 600, 10):
        rows[at] |= made.lost("refused")

    found = verdicts(compare(runs.plain, made.record(rows), runs.scenario, runs.scenario))

    assert (found["refused_rate"], found["slo_attainment"], found["error_rate"]) == ("worse", "worse", "same")
    # latencies compare the requests that both runs answered, so nothing moved
    assert found["ttft p50"] == "same"


def test_too_few_pairs_withhold_a_percentile(made: SimpleNamespace) -> None:
    record = made.record(made.random_rows(100, 1))

    found = verdicts(compare(record, record, made.scenario(), made.scenario()))

    assert (found["ttft p99"], found["ttft p95"]) == ("withheld", "same")


def test_a_comparison_is_deterministic_and_json(runs: SimpleNamespace) -> None:
    once, again = (
        json.dumps(compare(runs.plain, runs.slow, runs.scenario, runs.scenario).as_dict(), allow_nan=False)
        for _ in "ab"
    )

    assert once == again


def test_an_invalid_run_is_not_compared(made: SimpleNamespace, runs: SimpleNamespace) -> None:
    late = made.record([row | {"sent": row["scheduled"] + 0.2} for row in made.random_rows(600, 1)])

    comparison = compare(runs.plain, late, runs.scenario, runs.scenario)

    assert (comparison.rows, comparison.exit_code) == ((), 3)
    assert any("B is invalid" in note for note in comparison.notes)


def test_a_simulated_and_a_measured_run_are_a_prediction_and_no_regression(runs: SimpleNamespace) -> None:
    measured = replace(runs.slow, rung="local", diagnostics={"cpu_busy_share": 0.97})

    for pair in ((runs.plain, measured), (measured, runs.plain)):
        comparison = compare(*pair, runs.scenario, runs.scenario)
        ttft = comparison.agreement.rows[0]

        assert comparison.exit_code == 0
        assert (ttft.measure, ttft.at) == ("ttft_from_sent", "p50")
        assert ttft.error == pytest.approx(1 / 1.2 - 1, abs=0.002)
        assert not comparison.agreement.agrees
        assert "97% busy" in comparison.agreement.text


def test_prediction_and_measurement_agree_when_they_are_alike(runs: SimpleNamespace) -> None:
    agreement = compare(runs.plain, replace(runs.plain, rung="local"), runs.scenario, runs.scenario).agreement

    assert agreement.agrees
    assert agreement.text == "Agrees within 10% at p50: yes."


def test_false_alarms_are_as_rare_as_the_level_says() -> None:
    # two halves of one stream whose neighbours share a queue, as requests do
    chance = np.random.default_rng(4)
    alarms = 0
    for trial in range(50):
        levels = np.repeat(chance.lognormal(0, 0.3, (2, 60)), 10, axis=1)
        values = levels * chance.lognormal(0, 0.3, (2, 600))
        draws = [BlockBootstrap(600, trial, 400), BlockBootstrap(600, trial + 1000, 400)]
        medians = [one.quantiles(side, [0.5])[:, 0] for one, side in zip(draws, values, strict=True)]
        low, high = interval(medians[1] / medians[0] - 1, 0.99)
        alarms += low > 0 or high < 0

    assert alarms <= 4


def test_resampling_keeps_a_constant_and_ignores_what_is_missing() -> None:
    values = np.where(np.arange(100) % 3 == 0, np.nan, 2.0)

    assert set(BlockBootstrap(100, 1).quantiles(values, [0.5, 0.9]).ravel().tolist()) == {2.0}
    assert np.isnan(BlockBootstrap(5, 1).quantiles(np.full(5, np.nan), [0.5])).all()
