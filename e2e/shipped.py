"""Where the shipped scenarios are: beside the packages in a checkout, inside the wheel once installed."""

from __future__ import annotations

from pathlib import Path

from sim.experiment.scenario import find

HERE = Path(__file__).resolve().parent


def scenario_directories() -> list[Path]:
    """Return the directories that hold shipped scenarios, nearest first."""
    candidates = [Path("scenarios"), HERE.parent / "scenarios", HERE / "flights"]
    return [directory for directory in candidates if (directory / "first_flight.yaml").exists()]


def find_scenario(name: str) -> Path:
    """Find a scenario by path or by the name of a shipped one; a path that is not there is given back as it is.

    `scenarios/first_flight.yaml` is found in an installed wheel too, where there is no checkout around.
    """
    path = Path(name)
    if not path.exists() and path.parts[:1] == ("scenarios",):
        for directory in scenario_directories():
            if (directory / path.name).exists():
                return directory / path.name
    return find(name, scenario_directories())
