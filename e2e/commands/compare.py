"""`windtunnel compare`: two scenarios or runs against each other, and an exit code that says whether one got worse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e2e.shipped import find_scenario
from sim.experiment.errors import InputError

if TYPE_CHECKING:
    from sim.experiment.comparison import Comparison
    from sim.experiment.record import RunRecord
    from sim.experiment.schema import Scenario


def compare(
    a: Annotated[str, typer.Argument(help="what B is held against: a run directory, or a scenario to fly first")],
    b: Annotated[str | None, typer.Argument(help="a run directory or a scenario (default: A with --set)")] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="override a key: of both scenarios, or with only A given, of the second flight; repeatable",
        ),
    ] = None,
    threshold: Annotated[
        str, typer.Option(help="the smallest change of a latency that counts; a quarter of it is the one of a share")
    ] = "2%",
    out: Annotated[
        Path | None, typer.Option(help="write the comparison here as a page (.html) and, beside it, as JSON")
    ] = None,
) -> None:
    """Compare B with A; exit 1 when something got significantly worse.

    Scenarios are flown in simulated time first. Runs of one workload are paired by request. A simulated run and one of
    another rung are a prediction and its measurement: then the errors of the prediction are told, and nothing is worse.

    windtunnel compare base.yaml changed.yaml

    windtunnel compare first_flight --set cluster.pools.0.replicas=3

    windtunnel compare runs/first_flight-sim-1 runs/first_flight-local-1 --out prediction.html
    """
    from rich.console import Console

    from sim.experiment.comparison import compare as compare_runs
    from sim.experiment.report.terminal import print_comparison

    if b is None and not override:
        raise InputError(
            "compare: only one run or scenario was given; expected a second one, or --set for a changed first"
        )
    minimal_effect = _share(threshold)
    record_a, scenario_a = _run(a, () if b is None else override or ())
    record_b, scenario_b = _run(a if b is None else b, override or ())
    names = _names(a, b, override or [])
    comparison = compare_runs(record_a, record_b, scenario_a, scenario_b, names=names, minimal_effect=minimal_effect)
    print_comparison(comparison, Console())
    if out is not None:
        _write(comparison, out)
    if comparison.exit_code:
        raise typer.Exit(comparison.exit_code)


def _run(given: str, overrides: tuple[str, ...] | list[str]) -> tuple[RunRecord, Scenario]:
    """Read a run, or fly a scenario in simulated time."""
    from sim.experiment.scenario import load
    from sim.experiment.store import read, scenario_of

    path = Path(given)
    if path.is_dir():
        if overrides:
            raise InputError(f"--set {overrides[0]}: {given} is a run, flown already; expected a scenario to change")
        record = read(path)
        return record, scenario_of(record)
    from e2e.progress import shown
    from e2e.rungs import fly

    loaded = load(find_scenario(given), overrides)
    with shown(f"{loaded.scenario.name} on sim") as progress:
        return fly(loaded, "sim", progress), loaded.scenario


def _names(a: str, b: str | None, overrides: list[str]) -> tuple[str, str]:
    """Name the two sides by what tells them apart."""
    name_a = Path(a).stem if not Path(a).is_dir() else Path(a).name
    name_b = name_a if b is None else Path(b).stem if not Path(b).is_dir() else Path(b).name
    if overrides:
        name_b = f"{name_b} with {', '.join(override.rsplit('.', 1)[-1] for override in overrides)}"
    return (name_a, name_b) if name_a != name_b else (f"{name_a} (A)", f"{name_b} (B)")


def _share(threshold: str) -> float:
    text = threshold.strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise InputError(f"--threshold {threshold}: expected a share such as 2% or 0.02")
    return share


def _write(comparison: Comparison, out: Path) -> None:
    from sim.experiment.report.comparison_page import render_comparison
    from sim.experiment.store import write_json

    page = out if out.suffix == ".html" else out / "comparison.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render_comparison(comparison), encoding="utf-8")
    write_json(page.with_suffix(".json"), comparison.as_dict())
    typer.echo(f"comparison: {page}")
