"""`windtunnel plan` as a user types it: asked without a file, and asked wrongly."""

from __future__ import annotations

import json
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
    ],
)
def test_a_wrong_question_gets_one_message_and_exits_2(windtunnel: Any, arguments: list[str], told: str) -> None:
    answer = windtunnel(*arguments)

    assert answer.returncode == 2
    assert told in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not answer.stdout
