"""The rungs of the ladder. Each takes a scenario and a workload and returns a run record; readers never know which.

`fly` picks the rung by name or URL. A rung's parts are imported when it flies: the sim rung needs none of the servers.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from e2e.progress import Progress
from sim.experiment.errors import InputError
from sim.experiment.generate import build_workload
from sim.experiment.record import RunRecord
from sim.experiment.scenario import LoadedScenario


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL rung needs besides the URL."""

    api_key: str | None = None
    model: str | None = None


def fly(
    loaded: LoadedScenario,
    on: str,
    progress: Progress | None = None,
    *,
    out_dir: Path | None = None,
    seed: int | None = None,
    target: Target | None = None,
) -> RunRecord:
    """Fly a scenario on a rung: `sim`, `local`, or the URL of an OpenAI-compatible endpoint.

    `out_dir` is where a rung of processes keeps its logs while it flies; None: a temporary directory.

    Raises:
        InputError: no such rung, or one that cannot fly here, with the reason.
    """
    workload = build_workload(loaded, seed)
    if on == "sim":
        from sim.cluster import fly as fly_simulated

        return fly_simulated(loaded, workload, progress=progress, seed=seed)
    if on != "local" and not on.startswith(("http://", "https://")):
        known = "sim, local, or a URL such as http://gpu-node:8000"
        raise InputError(f"--on {on}: there is no such rung; expected {known}")
    with tempfile.TemporaryDirectory(prefix="windtunnel-") as scratch:
        directory = out_dir or Path(scratch)
        if on == "local":
            from e2e.rungs.local import fly as fly_local

            return fly_local(loaded, workload, directory, progress)
        from e2e.rungs.url import fly as fly_url

        return fly_url(loaded, workload, on, directory, progress, target or Target())


def missing_extra(extra: str, error: ImportError) -> InputError:
    """Make the error for a rung whose libraries are not installed."""
    return InputError(
        f"not run here, because {error.name or error} is not installed: pip install 'windtunnel[{extra}]'"
    )
