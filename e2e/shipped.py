"""Where the shipped scenarios are: beside the packages in a checkout, inside the wheel once installed."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from sim.experiment.scenario import ScenarioError, find

HERE = Path(__file__).resolve().parent


def scenario_directories() -> list[Path]:
    """Return the directories that hold shipped scenarios, nearest first."""
    candidates = [Path("scenarios"), HERE.parent / "scenarios", HERE / "flights"]
    return [directory for directory in candidates if (directory / "first_flight.yaml").exists()]


def find_scenario(name: str) -> Path:
    """Find a scenario by path or by the name of a shipped one; a path that is not there is given back as it is.

    `scenarios/first_flight.yaml` is found in an installed wheel too, where there is no checkout around.

    Raises:
        ScenarioError: a name that no shipped scenario has, with the nearest.
    """
    path = Path(name)
    if not path.exists() and path.parts[:1] == ("scenarios",):
        for directory in scenario_directories():
            if (directory / path.name).exists():
                return directory / path.name
    found = find(name, scenario_directories())
    if not found.exists() and len(path.parts) == 1 and not path.suffix:
        shipped = {scenario.stem for directory in scenario_directories() for scenario in directory.glob("*.yaml")}
        close = get_close_matches(name, sorted(shipped), 1, 0.4)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ScenarioError(f"{name}: there is no such scenario{hint}; `windtunnel scenarios` lists those shipped")
    return found
