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
    assert "replicas of Llama-3.1-8B-Instruct on l40s meet every SLO" in " ".join(first.stdout.split())
    scenario = tmp_path / "plan-llama-3-1-8b-instruct.yaml"
    assert f"scenario: {scenario.name}" in first.stderr
    answer = json.loads((tmp_path / "a.json").read_text())
    assert answer["best"]["replicas"] >= 1
    assert answer["headroom"]["factor"] >= 1
    assert "<h1>plan-llama-3-1-8b-instruct</h1>" in (tmp_path / "a.html").read_text()

    again = windtunnel("plan", scenario.name, "--jobs", "1")
    assert again.returncode == 0
    assert again.stdout.split("flights in")[0] == first.stdout.split("flights in")[0]


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
