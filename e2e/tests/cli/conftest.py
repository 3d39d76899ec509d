import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e import cli

SCENARIO = """\
windtunnel: 1
name: small
about: Ten seconds of little traffic on two small replicas.
seed: 3
workload:
  arrivals: {process: poisson, rate: 8/s}
  duration: 10s
  lengths: {input: 64, output: 8}
  classes: [{name: chat, slo: {ttft: 2s, attainment: 0.9}}]
cluster:
  router: {policy: round_robin}
  pools:
    - {model: steady, replicas: 2, max_model_len: 4096, num_gpu_blocks: 1000, step_cost: {base: 5ms}}
measure: {warm_up: 1s}
expect: ["chat.slo_attainment >= 0.5"]
"""


@pytest.fixture
def scenario(tmp_path) -> Path:
    """A small scenario file in a directory of its own."""
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO)
    return path


@dataclass
class Told:
    """What a command said and how it ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def windtunnel(tmp_path, monkeypatch, capsys):
    """Run the command in a directory of its own; in this process, because starting another takes longer than most."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    # typer puts its own there
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def run(*arguments: object) -> Told:
        code = cli.run([str(argument) for argument in arguments])
        return Told(code, *capsys.readouterr())

    return run
