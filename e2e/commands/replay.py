"""`windtunnel replay`: fly a scenario on a rung, write its run directory and its report, and say how it went."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2e.shipped import find_scenario
from sim.experiment.errors import InputError

if TYPE_CHECKING:
    from e2e.rungs import OnCluster, Target
    from sim.experiment.record import RunRecord
    from sim.experiment.report.perfetto import Stretch
    from sim.experiment.scenario import LoadedScenario
    from sim.experiment.workload import Workload

EXIT_FAILED, EXIT_INVALID = 1, 3


class Keep(StrEnum):
    """Whether what was made on a cluster for a flight stays there."""

    NEVER = "never"
    FAILED = "failed"
    ALWAYS = "always"


def replay(
    scenario: Annotated[str, typer.Argument(help="a scenario file, or the name of a shipped one")],
    on: Annotated[
        str,
        typer.Option(
            help="where to fly: sim, local, kind, or the URL of an OpenAI-compatible endpoint", metavar="RUNG"
        ),
    ] = "sim",
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="override a key: workload.trace.window=[10m,12m]; repeatable"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="the run directory (default: runs/NAME-RUNG-NUMBER)")] = None,
    seed: Annotated[int | None, typer.Option(help="instead of the scenario's seed", min=0)] = None,
    api_key: Annotated[
        str | None, typer.Option(help="for a URL (default: WINDTUNNEL_API_KEY)", envvar="WINDTUNNEL_API_KEY")
    ] = None,
    model: Annotated[str | None, typer.Option(help="for a URL: ask for this model instead of the scenario's")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="for a URL: trust any certificate")] = False,
    cluster: Annotated[str, typer.Option(help="for kind: the cluster's name; made if it is not there")] = "windtunnel",
    kubeconfig: Annotated[Path | None, typer.Option(help="for kind: an existing cluster instead")] = None,
    components: Annotated[Path | None, typer.Option(help="for kind: other versions of the platform")] = None,
    keep: Annotated[
        Keep, typer.Option(help="for kind: leave what was made for the flight there: never, failed or always")
    ] = Keep.NEVER,
    reuse: Annotated[bool, typer.Option("--reuse", help="for kind: take the cluster as it is")] = False,
    trace: Annotated[
        Path | None, typer.Option(help="write a timeline for ui.perfetto.dev here (.json or .json.gz)")
    ] = None,
    trace_window: Annotated[
        str | None, typer.Option(metavar="FROM,TO", help="the part of the flight that the timeline shows: 10m,12m")
    ] = None,
    open_report: Annotated[
        bool | None, typer.Option("--open/--no-open", help="open the report (default: on a terminal with a browser)")
    ] = None,
) -> None:
    """Fly a scenario and report.

    Writes a run directory with the record (run.json, parquet tables), summary.json, summary.csv, junit.xml and
    report.html, and prints the verdicts. Exit 0: all verdicts hold; 1: one does not; 3: the run is invalid.

    windtunnel replay first_flight

    windtunnel replay first_flight --on local --set 'workload.trace.window=[10m,12m]'

    windtunnel replay first_flight --on kind --set 'workload.trace.window=[10m,12m]'

    windtunnel replay my.yaml --on http://gpu-node:8000
    """
    from e2e.rungs import OnCluster, Target, require_rung
    from sim.experiment.generate import build_workload
    from sim.experiment.scenario import load

    require_rung(on)
    loaded = load(find_scenario(scenario), override or ())
    directory = run_directory(loaded.path.stem, on, out)
    stretch = checked_trace(trace, trace_window)
    workload = build_workload(loaded, seed)
    typer.echo(f"{loaded.scenario.name} on {on}: {_what_flies(workload)}", err=True)
    with kept_logs(directory) as logs:
        target = Target(api_key, model, verify_tls=not insecure)
        ground = OnCluster(cluster, kubeconfig, components, keep.value, reuse)
        record = _fly(loaded, workload, on, logs, seed, target, ground, with_steps=trace is not None)
        summary = write_run(record, loaded, directory, logs)
    if trace is not None:
        write_timeline(record, trace, stretch)
    _tell(record, summary, directory)
    if open_report or (open_report is None and _has_browser()):
        webbrowser.open((directory / "report.html").resolve().as_uri())
    if not summary["validity"]["is_valid"]:
        raise typer.Exit(EXIT_INVALID)
    if summary["outcome"] != "pass":
        raise typer.Exit(EXIT_FAILED)


def checked_trace(trace: Path | None, window: str | None) -> Stretch:
    """Read which part of a flight a timeline shows, and make sure, before anything flies, that it can be written.

    Raises:
        InputError: it cannot, or the part is none, or there is no timeline to show it.
    """
    from sim.experiment.report.perfetto_file import stretch_of

    if trace is None and window is not None:
        raise InputError(f"--trace-window {window}: is a part of a timeline; expected --trace FILE with it")
    if trace is not None and not trace.parent.is_dir():
        raise InputError(f"--trace {trace}: there is no directory {trace.parent}")
    return stretch_of(window)


def write_timeline(record: RunRecord, trace: Path, stretch: Stretch) -> None:
    """Write the timeline of a run, and say where it was cut."""
    from sim.experiment.report.perfetto_file import write_trace

    note = write_trace(record, trace, stretch)
    if note is not None:
        typer.echo(note, err=True)


def _what_flies(workload: Workload) -> str:
    count, seconds = len(workload.requests), workload.duration_seconds
    models = ", ".join(sorted({request.model for request in workload.requests}))
    return f"{count:,} requests for {models} in {seconds:,.0f} s ({count / seconds:.3g}/s)"


def _fly(
    loaded: LoadedScenario,
    workload: Workload,
    on: str,
    logs: Path,
    seed: int | None,
    target: Target,
    cluster: OnCluster,
    *,
    with_steps: bool = False,
) -> RunRecord:
    from e2e.progress import shown
    from e2e.rungs import fly

    with shown(f"{loaded.scenario.name} on {on}") as progress:
        return fly(
            loaded,
            on,
            progress,
            out_dir=logs,
            seed=seed,
            target=target,
            cluster=cluster,
            workload=workload,
            with_steps=with_steps,
        )


def run_directory(name: str, on: str, out: Path | None) -> Path:
    """Choose the run directory and make sure, before anything flies, that it can be written.

    Raises:
        InputError: it is something else than an earlier run, or cannot be written.
    """
    from sim.experiment.store import is_run

    if out is not None:
        if out.exists() and not (is_run(out) or (out.is_dir() and not any(out.iterdir()))):
            raise InputError(f"--out {out}: exists and is no earlier run; expected a new directory, or one of a run")
        directory = out
    else:
        rung = on if on in ("sim", "local", "kind") else "url"
        number = 1
        while (directory := Path("runs") / f"{name}-{rung}-{number}").exists():
            number += 1
    parent = directory.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{parent}: the run directory cannot be made there: {error.strerror}") from error
    if not os.access(parent, os.W_OK):
        raise InputError(f"{parent}: the run directory cannot be made there: no permission to write")
    if shutil.disk_usage(parent).free < 64 * 2**20:
        raise InputError(f"{parent}: less than 64 MiB are free; a run needs up to that")
    return directory


@contextmanager
def kept_logs(directory: Path) -> Iterator[Path]:
    """Give a directory for the logs of a flight to `directory`; where the flight fails, they stay beside it."""
    with tempfile.TemporaryDirectory(prefix="windtunnel-") as scratch:
        logs = Path(scratch) / "logs"
        logs.mkdir()
        try:
            yield logs
        except Exception:
            if any(logs.iterdir()):
                kept = directory.with_name(f"{directory.name}.logs")
                shutil.copytree(logs, kept, dirs_exist_ok=True)
                typer.echo(f"logs of the flight that failed: {kept}", err=True)
            raise


def write_run(record: RunRecord, loaded: LoadedScenario, directory: Path, logs: Path | None = None) -> dict[str, Any]:
    """Write a run directory whole, report, logs and all; return the summary."""
    from sim.experiment.report import write_reports
    from sim.experiment.store import whole_directory, write_into
    from sim.experiment.summary import summarise

    summary = summarise(record, loaded.scenario)
    with whole_directory(directory) as staging:
        write_into(record, staging)
        write_reports(record, loaded.scenario, summary, staging)
        if logs is not None and any(logs.iterdir()):
            shutil.copytree(logs, staging / "logs")
    return summary


def _tell(record: RunRecord, summary: dict[str, Any], directory: Path) -> None:
    from rich.console import Console

    from sim.experiment.report.terminal import print_summary

    console = Console()
    print_summary(summary, console)
    speed = record.diagnostics.get("requests_per_wall_second")
    if speed:
        console.print(f"simulated {speed:,.0f} requests per second ({record.diagnostics['wall_seconds']:.1f} s)")
    console.print(f"run: {directory}   report: {directory / 'report.html'}", highlight=False)


def _has_browser() -> bool:
    """Say whether a person would see a browser open: at a terminal, with a display, with a browser installed."""
    has_display = sys.platform in ("darwin", "win32") or any(os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY"))
    if not (sys.stdout.isatty() and has_display):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True
