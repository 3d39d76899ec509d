"""`windtunnel replay`: fly a scenario on a rung, write its run directory and its report, and say how it went."""

from __future__ import annotations

import os
import shutil
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2e.shipped import find_scenario
from sim.experiment.errors import InputError

if TYPE_CHECKING:
    from sim.experiment.record import RunRecord
    from sim.experiment.scenario import LoadedScenario

EXIT_FAILED, EXIT_INVALID = 1, 3


def replay(
    scenario: Annotated[str, typer.Argument(help="a scenario file, or the name of a shipped one")],
    on: Annotated[
        str, typer.Option(help="where to fly: sim, local, or the URL of an OpenAI-compatible endpoint", metavar="RUNG")
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
    open_report: Annotated[
        bool | None, typer.Option("--open/--no-open", help="open the report (default: on a terminal with a browser)")
    ] = None,
) -> None:
    """Fly a scenario and report.

    Writes a run directory with the record (run.json, parquet tables), summary.json, summary.csv, junit.xml and
    report.html, and prints the verdicts. Exit 0: all verdicts hold; 1: one does not; 3: the run is invalid.

    windtunnel replay first_flight

    windtunnel replay first_flight --on local --set 'workload.trace.window=[10m,12m]'

    windtunnel replay my.yaml --on http://gpu-node:8000
    """
    from e2e.progress import shown
    from e2e.rungs import Target, fly
    from sim.experiment.scenario import load

    loaded = load(find_scenario(scenario), override or ())
    directory = run_directory(loaded.path.stem, on, out)
    with shown(f"{loaded.scenario.name} on {on}") as progress:
        record = fly(loaded, on, progress, seed=seed, target=Target(api_key, model))
    summary = write_run(record, loaded, directory)
    _tell(record, summary, directory)
    if open_report or (open_report is None and _has_browser()):
        webbrowser.open((directory / "report.html").resolve().as_uri())
    if not summary["validity"]["is_valid"]:
        raise typer.Exit(EXIT_INVALID)
    if summary["outcome"] != "pass":
        raise typer.Exit(EXIT_FAILED)


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


def write_run(record: RunRecord, loaded: LoadedScenario, directory: Path) -> dict[str, Any]:
    """Write a run directory whole, report and all; return the summary."""
    from sim.experiment.report import write_reports
    from sim.experiment.store import whole_directory, write_into
    from sim.experiment.summary import summarise

    summary = summarise(record, loaded.scenario)
    with whole_directory(directory) as staging:
        write_into(record, staging)
        write_reports(record, loaded.scenario, summary, staging)
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
