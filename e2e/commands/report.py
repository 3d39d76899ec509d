"""`windtunnel report`: write a run's report again, from its record alone."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from sim.experiment.errors import InputError


def report(
    run: Annotated[Path, typer.Argument(help="a run directory")],
    against: Annotated[
        Path | None, typer.Option(help="a run of the same scenario on another rung, to hold it against")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="where to write the files (default: into the run directory)")] = None,
    trace: Annotated[
        Path | None, typer.Option(help="write a timeline for ui.perfetto.dev here, too (.json or .json.gz)")
    ] = None,
    trace_window: Annotated[
        str | None, typer.Option(metavar="FROM,TO", help="the part of the flight that the timeline shows: 10m,12m")
    ] = None,
    open_report: Annotated[bool, typer.Option("--open/--no-open", help="open the report in a browser")] = False,
) -> None:
    """Write the report of a run again: report.html, summary.json, summary.csv, requests.csv and junit.xml.

    windtunnel report runs/first_flight-sim-1

    windtunnel report runs/first_flight-local-1 --against runs/first_flight-sim-1

    windtunnel report runs/first_flight-local-1 --trace t.json.gz --trace-window 10m,12m
    """
    from rich.console import Console

    from e2e.commands.replay import checked_trace, write_timeline
    from sim.experiment.report import REPORT_HTML, write_reports
    from sim.experiment.report.terminal import print_summary
    from sim.experiment.store import read, scenario_of
    from sim.experiment.summary import summarise

    stretch = checked_trace(trace, trace_window)
    record = read(run)
    other = read(against) if against is not None else None
    if other is not None and other.rung == record.rung:
        raise InputError(
            f"--against {against}: flew on {other.rung} too; expected another rung (see windtunnel compare)"
        )
    scenario = scenario_of(record)
    summary = summarise(record, scenario)
    directory = out or run
    directory.mkdir(parents=True, exist_ok=True)
    write_reports(record, scenario, summary, directory, other)
    if trace is not None:
        write_timeline(record, trace, stretch)
        typer.echo(f"timeline: {trace} (without steps: a run does not store them; replay --trace draws them)", err=True)
    print_summary(summary, Console(), directory)
    if open_report:
        webbrowser.open((directory / REPORT_HTML).resolve().as_uri())
