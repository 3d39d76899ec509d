"""The committed golden summaries of the shipped scenarios: written by hand's order, compared by the tests.

`python -m e2e.goldens --write [NAME ...]` flies the scenarios in simulated time and rewrites `scenarios/golden/`;
without `--write` it says what moved. Reading the difference before committing it is the point.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCENARIOS = Path(__file__).resolve().parent.parent / "scenarios"
GOLDEN = SCENARIOS / "golden"


def shipped() -> list[Path]:
    """The scenario files beside which goldens live, by name."""
    return sorted(SCENARIOS.glob("*.yaml"))


def fly(path: Path) -> dict[str, Any]:
    """Fly one scenario in simulated time and return its summary as JSON would hold it."""
    from sim.cluster import fly as fly_simulated
    from sim.experiment.generate import build_workload
    from sim.experiment.scenario import load
    from sim.experiment.summary import summarise

    loaded = load(path)
    record = fly_simulated(loaded, build_workload(loaded))
    summary: dict[str, Any] = json.loads(json.dumps(summarise(record, loaded.scenario)))
    return summary


def golden_of(path: Path) -> Path:
    """Where the golden of a scenario lives."""
    return GOLDEN / f"{path.stem}.json"


def differences(expected: Any, actual: Any, where: str = "") -> Iterator[str]:
    """Name every leaf that differs, with both values; floats are equal to within one part in a billion."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key in sorted(expected.keys() | actual.keys()):
            yield from differences(
                expected.get(key, "absent"), actual.get(key, "absent"), f"{where}.{key}" if where else key
            )
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for position, (left, right) in enumerate(zip(expected, actual, strict=True)):
            yield from differences(left, right, f"{where}[{position}]")
    elif isinstance(expected, float) and isinstance(actual, float):
        if abs(expected - actual) > 1e-9 * max(1.0, abs(expected)):
            yield f"{where}: {expected!r} became {actual!r}"
    elif expected != actual:
        yield f"{where}: {expected!r} became {actual!r}"


def main() -> int:
    """Compare or rewrite; exit 1 when something moved and nothing was written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="scenario names; all when none is given")
    parser.add_argument("--write", action="store_true", help="rewrite the goldens")
    arguments = parser.parse_args()
    moved = False
    for path in shipped():
        if arguments.names and path.stem not in arguments.names:
            continue
        summary = fly(path)
        golden = golden_of(path)
        changes = list(differences(json.loads(golden.read_text()) if golden.exists() else {}, summary))
        moved = moved or bool(changes)
        print(f"{path.stem}: {len(changes)} changes", *changes[:20], sep="\n  ")
        if arguments.write:
            GOLDEN.mkdir(exist_ok=True)
            golden.write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
    return 0 if arguments.write or not moved else 1


if __name__ == "__main__":
    sys.exit(main())
