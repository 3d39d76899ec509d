"""`windtunnel scenarios`: the shipped scenarios and what each one teaches."""

from __future__ import annotations

from typing import Annotated

import typer

from e2e.shipped import scenario_directories


def scenarios(
    count: Annotated[bool, typer.Option(help="also read the traces and count the requests")] = True,
) -> None:
    """List the shipped scenarios: name, what it shows, and how much it flies.

    Fly one by its name: `windtunnel replay burst`. Copy its file to make it your own.
    """
    from rich.console import Console
    from rich.table import Table

    from sim.experiment.generate import build_workload
    from sim.experiment.scenario import load

    table = Table(show_lines=True)
    table.add_column("scenario", no_wrap=True)
    table.add_column("about", overflow="fold")
    table.add_column("flies", justify="right")
    seen = set()
    for directory in scenario_directories():
        for path in sorted(directory.glob("*.yaml"), key=lambda path: (path.stem != "first_flight", path.stem)):
            if path.stem in seen:
                continue
            seen.add(path.stem)
            loaded = load(path)
            flies = ""
            if count:
                workload = build_workload(loaded)
                flies = f"{len(workload.requests):,} requests\n{workload.duration_seconds / 60:.0f} min"
            table.add_row(path.stem, loaded.scenario.about, flies)
    console = Console()
    console.print(table)
    console.print("Fly one: windtunnel replay NAME")
