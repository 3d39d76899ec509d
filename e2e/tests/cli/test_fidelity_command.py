"""`windtunnel fidelity`: its table on paper, and what it says to bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def test_a_part_of_the_table_is_written_whole(windtunnel, tmp_path: Path) -> None:
    done = windtunnel("fidelity", "--only", "vllm h100 MiniMax", "--out", "told")

    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "told/fidelity.json").read_text())
    lines = [line["what"] for line in figures["lines"]]
    assert lines[0] == "all"
    assert lines[-1].startswith("vllm h100-sxm MiniMax-M2.5")
    text = (tmp_path / "told/FIDELITY.md").read_text()
    assert "GPU held out" in text
    assert "Where a bar is missed, why" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "vllm b300"], "--only vllm b300: no rows; expected words of one of: "),
        (["--out", "small.yaml"], "--out small.yaml: is a file; expected a directory"),
        (["--only", "MiniMax h100", "--out", "/proc/nowhere"], "/proc/nowhere"),
        (["--refitt", "x"], "--refit"),
        (["--refit", "no/where.yaml"], "--refit no/where.yaml: there is no directory no"),
    ],
)
def test_bad_input_is_one_message(windtunnel, scenario, arguments, said) -> None:
    done = windtunnel("fidelity", *arguments)

    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
