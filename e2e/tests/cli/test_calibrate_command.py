"""`windtunnel calibrate` on a recorded run: one replica's requests, fitted and checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.hardware.profile import read_profile


def test_a_run_tells_the_step_cost_that_it_was_flown_with(windtunnel, scenario, tmp_path: Path) -> None:
    assert windtunnel("replay", scenario, "--no-open", "--out", "run").returncode == 0

    done = windtunnel("calibrate", "run", "--replica", "vllm-1", "--out", "cost.yaml")

    assert done.returncode == 0, done.stderr
    assert "of vllm-1 (sim)" in done.stdout
    assert read_profile(tmp_path / "cost.yaml").cost.overhead == pytest.approx(0.005, rel=0.05)


def test_a_replica_that_served_nothing_is_told_with_those_that_did(windtunnel, scenario) -> None:
    assert windtunnel("replay", scenario, "--no-open", "--out", "run").returncode == 0

    done = windtunnel("calibrate", "run", "--replica", "vllm-7")

    assert done.returncode == 2
    assert "--replica vllm-7: served nothing; expected one of vllm-0, vllm-1" in done.stderr


def test_a_run_with_too_few_requests_is_told(windtunnel, scenario) -> None:
    few = ("--set", "workload.duration=3s", "--set", "measure.warm_up=0s", "--set", "workload.arrivals.rate=3/s")
    windtunnel("replay", scenario, "--no-open", "--out", "run", *few)

    done = windtunnel("calibrate", "run")

    assert done.returncode == 2
    assert "expected at least 20" in done.stderr
    assert "Traceback" not in done.stderr


TABLE = "arrival,input_tokens,output_tokens,ttft_seconds,tpot_seconds"


def test_a_table_is_fitted_and_the_capacity_told_goes_into_the_profile(windtunnel, tmp_path: Path) -> None:
    # one request at a time on a replica of 10 ms a step and 0.1 ms a prompt token
    rows = [(at * 5.0, 40 + 37 * at, 8 + at % 5) for at in range(60)]
    lines = [f"{at},{given},{got},{0.01 + 1e-4 * given},0.01" for at, given, got in rows]
    (tmp_path / "measured.csv").write_text("\n".join([TABLE, *lines]))

    done = windtunnel("calibrate", "measured.csv", "--kv-tokens", "64000", "--out", "node.yaml")

    assert done.returncode == 0, done.stderr
    assert "60 requests of measured.csv" in done.stdout
    assert "KV cache of the replica: 64000 tokens" in done.stdout
    profile = read_profile(tmp_path / "node.yaml")
    assert profile.kv_tokens == 64000
    assert profile.cost.per_prefill_token == pytest.approx(1e-4, rel=0.15)
    # with one sequence at a time, what a step costs and what a sequence costs are one figure
    assert profile.cost.overhead + profile.cost.per_sequence == pytest.approx(0.01, rel=0.1)


def test_a_capacity_that_could_not_have_held_a_request_is_told(windtunnel, tmp_path: Path) -> None:
    lines = [f"{at},900,9,0.1,0.01" for at in range(40)]
    (tmp_path / "measured.csv").write_text("\n".join([TABLE, *lines]))

    done = windtunnel("calibrate", "measured.csv", "--kv-tokens", "64", "--out", "node.yaml")

    assert done.returncode == 2
    assert "the engine as described could not have served this run" in done.stderr
    assert not (tmp_path / "node.yaml").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--replica", "vllm-0"), "is not a run directory"),
        (
            ("--max-num-seqs", "64", "--max-num-batched-tokens", "32"),
            "--max-num-seqs, --max-num-batched-tokens: max_num",
        ),
    ],
)
def test_options_that_do_not_fit_are_told(windtunnel, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    (tmp_path / "measured.csv").write_text(TABLE + "\n0,9,9,0.1,0.01\n")

    done = windtunnel("calibrate", "measured.csv", *options)

    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
