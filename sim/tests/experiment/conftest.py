"""Scenarios for tests: one text, changed in one place at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sim.experiment.scenario import LoadedScenario, parse

TEXT = """\
windtunnel: 1
name: test
seed: 7
workload:
  arrivals: {process: poisson, rate: 5/s}
  duration: 1m
  lengths: {input: 100, output: 10}
  classes:
    - name: chat
      slo: {ttft: 1s}
cluster:
  router: {policy: least_in_flight}
  pools:
    - {model: meta-llama/Llama-3.1-8B-Instruct, gpu: l40s, replicas: 2}
"""
DRAWN = """\
  arrivals: {process: poisson, rate: 5/s}
  duration: 1m
  lengths: {input: 100, output: 10}
"""


@pytest.fixture
def text() -> str:
    """A whole scenario; line 14 is its pool."""
    return TEXT


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., LoadedScenario]:
    """Read the scenario with parts of its text replaced, beside `tmp_path`."""

    def read_it(*replaced: tuple[str, str], sets: tuple[str, ...] = (), more: str = "") -> LoadedScenario:
        changed = TEXT
        for old, new in replaced:
            assert old in changed, old
            changed = changed.replace(old, new)
        return parse(changed + more, "s.yaml", tmp_path, sets)

    return read_it


@pytest.fixture
def flying(tmp_path: Path) -> Callable[..., LoadedScenario]:
    """Read the scenario with a trace instead of arrivals; `content` becomes the file."""

    def read_it(content: str, about: str = "format: azure", more: str = "", suffix: str = "csv") -> LoadedScenario:
        (tmp_path / f"trace.{suffix}").write_text(content)
        changed = TEXT.replace(DRAWN, f"  trace: {{file: trace.{suffix}, {about}}}\n")
        return parse(changed + more, "s.yaml", tmp_path)

    return read_it
