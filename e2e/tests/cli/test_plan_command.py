"""`windtunnel plan` as a user types it: asked without a file, and asked wrongly."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ASKED = ["plan", "--model", "Llama-3.1-8B-Instruct", "--rate", "4/s", "--input-tokens", "400", "--output-tokens", "60"]


def test_a_plan_without_a_file_writes_its_scenario_and_answers(windtunnel: Any, tmp_path: Path) -> None:
    asked = [*ASKED, "--ttft", "500ms", "--gpu", "l40s", "--max-replicas", "4", "--jobs", "1"]
    first = windtunnel(*asked, "--out", "a.json", "--html", "a.html")

    assert first.returncode == 0, first.stderr
    assert "1 replica of Llama-3.1-8B-Instruct on l40s, TP 1 meets every SLO" in " ".join(first.stdout.split())
    scenario = tmp_path / "plan-llama-3-1-8b-instruct.yaml"
    assert f"scenario: {scenario.name}" in first.stderr
    answer = json.loads((tmp_path / "a.json").read_text())
    assert answer["best"]["replicas"] >= 1
    assert answer["headroom"]["factor"] >= 1
    assert "<h1>plan-llama-3-1-8b-instruct</h1>" in (tmp_path / "a.html").read_text()

    again = windtunnel("plan", scenario.name, "--jobs", "1")
    assert again.returncode == 0
    assert again.stdout.split("flights in")[0] == first.stdout.split("flights in")[0]


def test_a_model_that_one_gpu_cannot_hold_is_asked_about_on_several(windtunnel: Any, tmp_path: Path) -> None:
    lengths = ["--rate", "1/s", "--input-tokens", "400", "--output-tokens", "60"]
    answer = windtunnel("plan", "--model", "Llama-3.1-70B-Instruct", *lengths, "--ttft", "2s", "--gpu", "l40s",
                        "--gpu", "h100-sxm", "--max-replicas", "4", "--out", "a.json")  # fmt: skip

    assert answer.returncode == 0, answer.stderr
    scenario = (tmp_path / "plan-llama-3-1-70b-instruct.yaml").read_text()
    assert "gpu: [l40s, h100-sxm], tensor_parallel: [2, 4, 8]" in scenario
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["best"]["settings"]["tensor_parallel"] >= 2
    assert any("does not fit on 2 × l40s" in skipped["reason"] for skipped in found["not_flown"])


def test_a_model_that_no_gpu_can_hold_is_told(windtunnel: Any, tmp_path: Path) -> None:
    question = [*ASKED, "--ttft", "1s"]
    question[2] = "Llama-3.1-70B-Instruct"
    answer = windtunnel(*question, "--gpu", "l40s", "--tensor-parallel", "1")

    assert answer.returncode == 2
    assert "does not fit on 1 × l40s" in answer.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["plan"], "--model, --rate, --input-tokens, --output-tokens missing"),
        (ASKED, "no SLO was given"),
        ([*ASKED, "--ttft", "500"], "--ttft 500: expected a duration with its unit"),
        ([*ASKED, "--ttft", "0s"], "--ttft 0s: expected more than 0"),
        ([*ASKED, "--ttft", "1s", "--gpu", "h10"], "unknown GPU 'h10'"),
        (["plan", "first_flight", "--rate", "3/s"], "--rate asks without a file, but first_flight was given"),
        (["plan", "first_flight", "--spare", "-1"], "--spare"),
        (["plan", "first_flight", "--spare-nodes", "-1"], "--spare-nodes"),
        (["plan", "first_flight", "--repeat", "0"], "--repeat"),
        (["plan", "first_flight", "--out", "no/such/a.json"], "no/such/a.json: cannot be written there"),
        (["plan", "first_flight", "--resume", "."], ".: is a directory; expected a file to keep flights in"),
        (["plan", "first_flight", "--set", "plan={vary: {gpus: [l40s]}}"], "(did you mean 'gpu'?)"),
        (["plan", "first_flight", "--set", "plan={vary: {gpu: [h10]}}"], "unknown GPU 'h10'; nearest: "),
    ],
)
def test_a_wrong_question_gets_one_message_and_exits_2(windtunnel: Any, arguments: list[str], told: str) -> None:
    answer = windtunnel(*arguments)

    assert answer.returncode == 2
    assert told in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not answer.stdout


SMALL = """
windtunnel: 1
name: small
seed: 3
workload:
  arrivals: {process: gamma, rate: 12/s, cv: 2.5}
  duration: 4m
  lengths: {input: {kind: uniform, min: 50, max: 400}, output: {kind: uniform, min: 5, max: 60}}
  classes: [{name: chat, slo: {ttft: 300ms, attainment: 0.9}}]
cluster:
  pools:
    - {model: tiny, replicas: 1, step_cost: {base: 12ms, per_prefill_token: 60us}, max_model_len: 1000}
plan: {vary: {replicas: 1..16, max_num_seqs: [2, 4, 8]}, minimise: gpus}
"""


def flights_of(journal: Path) -> int:
    return journal.read_text().count("\n") if journal.exists() else 0


def test_a_plan_killed_half_way_and_resumed_gives_the_same_answer(windtunnel: Any, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    journal = tmp_path / "flights.jsonl"
    straight = windtunnel("plan", "small.yaml", "--jobs", "1", "--out", "straight.json")
    assert straight.returncode == 0, straight.stderr
    command = [sys.executable, "-m", "e2e.cli", "plan", "small.yaml", "--jobs", "1", "--resume", str(journal)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        until = time.monotonic() + 60
        while flights_of(journal) < 4 and running.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        assert running.poll() is None, "the plan was over before it could be killed"
        running.kill()
    kept = flights_of(journal)
    resumed = windtunnel("plan", "small.yaml", "--resume", str(journal), "--out", "resumed.json")

    assert resumed.returncode == 0, resumed.stderr
    before, after = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("straight", "resumed"))
    assert after == before
    assert 4 <= kept < flights_of(journal)


def test_a_plan_asked_again_under_other_seeds_tells_the_spread(windtunnel: Any, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    answer = windtunnel("plan", "small.yaml", "--jobs", "1", "--repeat", "2", "--out", "a.json", "--html", "a.html",
                        "--set", "workload.arrivals.rate=6/s")  # fmt: skip

    assert answer.returncode == 0, answer.stderr
    told = json.loads((tmp_path / "a.json").read_text())["repeats"]
    assert len(told["answers"]) == 2
    assert told["sentence"].split(".")[0] in " ".join(answer.stdout.split())
    assert "Under other seeds" in (tmp_path / "a.html").read_text()


def test_a_space_below_the_bound_of_a_perfect_system_is_told_without_a_flight(windtunnel: Any, tmp_path: Path) -> None:
    asked = ["plan", "--model", "Llama-3.1-8B-Instruct", "--rate", "90/s", "--input-tokens", "2000"]
    answer = windtunnel(*asked, "--output-tokens", "300", "--ttft", "500ms", "--gpu", "l40s", "--tensor-parallel", "1",
                        "--max-replicas", "2", "--html", "a.html", "--out", "a.json")  # fmt: skip

    assert answer.returncode == 1, answer.stderr
    assert "even a perfect system would need more" in answer.stdout
    assert "0 flights in" in answer.stdout
    assert json.loads((tmp_path / "a.json").read_text())["best"] is None
    assert "Nothing meets" in (tmp_path / "a.html").read_text()


PRICES = "date: 2026-01-01\nsource: our own racks\nprice_per_hour_usd: {l40s: 9.0, h100: 1.0}\n"


def test_prices_of_ones_own_decide_and_are_told(windtunnel: Any, tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(PRICES)
    asked = [*ASKED, "--ttft", "500ms", "--gpu", "l40s", "--gpu", "h100-sxm", "--tensor-parallel", "1",
             "--max-replicas", "4", "--jobs", "1"]  # fmt: skip
    answer = windtunnel(*asked, "--prices", "prices.yaml", "--out", "a.json")

    assert answer.returncode == 0, answer.stderr
    assert "Prices as of 2026-01-01: our own racks." in " ".join(answer.stdout.split())
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["best"]["settings"]["gpu"] == "h100-sxm"
    assert found["best"]["price"] == found["best"]["replicas"] * 1.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("date: 2026-01-01\n", "the key 'source' is missing"),
        (PRICES.replace("9.0", "-1"), "price_per_hour_usd.l40s: -1: expected dollars an hour"),
        (PRICES.replace("h100", "h10"), "unknown GPU 'h10'; nearest: "),
        ("a: [", "this is not YAML"),
    ],
)
def test_prices_that_are_none_are_told(windtunnel: Any, tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "prices.yaml").write_text(text)
    answer = windtunnel("plan", "first_flight", "--prices", "prices.yaml")

    assert answer.returncode == 2
    assert told in " ".join(answer.stderr.split())
    assert "Traceback" not in answer.stderr
