"""The rungs of the ladder. Each takes a scenario and a workload and returns a run record; readers never know which.

`fly` picks the rung by name or URL. A rung's parts are imported when it flies: the sim rung needs none of the servers.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from e2e.progress import Progress
from sim.experiment.errors import InputError
from sim.experiment.generate import build_workload
from sim.experiment.record import RunRecord
from sim.experiment.scenario import LoadedScenario
from sim.experiment.workload import Workload

RUNGS = ("sim", "local", "kind")


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL rung needs besides the URL."""

    api_key: str | None = None
    model: str | None = None
    verify_tls: bool = True


@dataclass(frozen=True, slots=True)
class OnCluster:
    """Which cluster the kind rung flies on, and what is left there afterwards."""

    name: str = "windtunnel"
    kubeconfig: Path | None = None
    """An existing cluster's."""
    components: Path | None = None
    """Other versions of the platform's components."""
    keep: str = "never"
    """`never`, `failed` or `always`: whether what was made for a flight stays."""
    reuse: bool = False
    """The cluster is taken as it is: nothing is built, loaded or installed."""

    def keeps(self, *, has_failed: bool) -> bool:
        """Say whether what was made stays."""
        return self.keep == "always" or (self.keep == "failed" and has_failed)


def fly(
    loaded: LoadedScenario,
    on: str,
    progress: Progress | None = None,
    *,
    out_dir: Path | None = None,
    seed: int | None = None,
    target: Target | None = None,
    cluster: OnCluster | None = None,
    workload: Workload | None = None,
    with_steps: bool = False,
) -> RunRecord:
    """Fly a scenario on a rung: `sim`, `local`, `kind`, or the URL of an OpenAI-compatible endpoint.

    `out_dir` is where a rung of processes keeps its logs while it flies; None: a temporary directory. `workload` is the
    scenario's, where the caller has built it. `with_steps` has the record hold the steps of engines, where the rung can
    see them: the simulator's.

    Raises:
        InputError: no such rung, or one that cannot fly here, with the reason.
    """
    workload = workload or build_workload(loaded, seed)
    if on == "sim":
        from sim.cluster import fly as fly_simulated

        return fly_simulated(loaded, workload, progress=progress, seed=seed, with_steps=with_steps)
    require_rung(on)
    with tempfile.TemporaryDirectory(prefix="windtunnel-") as scratch:
        directory = out_dir or Path(scratch)
        if on == "local":
            from e2e.rungs.local import fly as fly_local

            return fly_local(loaded, workload, directory, progress, seed=seed)
        if on == "kind":
            from e2e.rungs.kind.rung import fly as fly_on_kind

            return fly_on_kind(loaded, workload, directory, progress, cluster or OnCluster(), seed=seed)
        from e2e.rungs.url import fly as fly_url

        return fly_url(loaded, workload, on, directory, progress, target or Target())


def require_rung(on: str) -> None:
    """Check that a rung is one that can be flown on.

    Raises:
        InputError: it is none, or not from here.
    """
    known = "sim, local, kind, or a URL such as http://gpu-node:8000"
    if on not in RUNGS and not on.startswith(("http://", "https://")):
        close = get_close_matches(on, RUNGS, 1, 0.5)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise InputError(f"--on {on}: there is no such rung{hint}; expected {known}")


def missing_extra(extra: str, error: ImportError) -> InputError:
    """Make the error for a rung whose libraries are not installed."""
    return InputError(
        f"not run here, because {error.name or error} is not installed: pip install 'windtunnel[{extra}]'"
    )
