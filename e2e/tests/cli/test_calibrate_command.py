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
