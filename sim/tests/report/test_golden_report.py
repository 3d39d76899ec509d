"""What a report says and draws, as committed. Rewrite with WINDTUNNEL_REWRITE_GOLDEN=1, and read the difference."""

import json
import os
from collections.abc import Iterator
from math import isclose
from pathlib import Path
from typing import Any

import pytest

from sim.experiment.comparison import compare
from sim.experiment.record import RunRecord
from sim.experiment.report.charts import charts
from sim.experiment.schema import Scenario
from sim.experiment.summary import summarise

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("part", ["summary", "charts", "comparison"])
def test_a_report_says_what_its_golden_says(
    part: str, record: RunRecord, measured: RunRecord, scenario: Scenario
) -> None:
    match part:
        case "summary":
            value: Any = summarise(record, scenario)
        case "charts":
            value = charts(record, scenario)
        case _:
            value = compare(record, measured, scenario, scenario).as_dict()
    path = GOLDEN / f"{part}.json"
    if os.environ.get("WINDTUNNEL_REWRITE_GOLDEN"):
        path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")

    moved = list(differences(json.loads(path.read_text()), json.loads(json.dumps(value))))

    assert not moved, "\n".join(moved[:20])


def test_a_moved_leaf_is_found() -> None:
    assert list(differences({"a": [1.0, 2.0]}, {"a": [1.0, 2.1]})) == ["a.1: 2.0 became 2.1"]


def differences(golden: Any, value: Any, where: str = "") -> Iterator[str]:
    if isinstance(golden, dict) and isinstance(value, dict):
        for key in sorted(golden.keys() | value.keys()):
            yield from differences(golden.get(key), value.get(key), f"{where}.{key}".lstrip("."))
    elif isinstance(golden, list) and isinstance(value, list) and len(golden) == len(value):
        for place, pair in enumerate(zip(golden, value, strict=True)):
            yield from differences(*pair, f"{where}.{place}")
    elif isinstance(golden, float) and isinstance(value, float | int):
        if not isclose(golden, value, rel_tol=1e-9, abs_tol=1e-12):
            yield f"{where}: {golden!r} became {value!r}"
    elif golden != value:
        yield f"{where}: {golden!r} became {value!r}"
