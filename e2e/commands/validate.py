"""`windtunnel validate`: what a scenario file would fly, or what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from e2e.shipped import find_scenario
from sim.experiment.errors import InputError


def validate(
    files: Annotated[list[Path], typer.Argument(help="scenario files, or names of shipped scenarios")],
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key, as in replay")
    ] = None,
) -> None:
    """Read scenario files as `replay` would, down to the last trace row, and say what they would fly.

    Every file is looked at; exit 2 when one of them could not fly.
    """
    from sim.experiment.generate import build_workload
    from sim.experiment.scenario import load

    failed = False
    for file in files:
        path = find_scenario(str(file))
        try:
            workload = build_workload(load(path, override or ()))
        except InputError as error:
            typer.echo(f"error: {error}", err=True)
            failed = True
            continue
        count = len(workload.requests)
        rate = count / workload.duration_seconds
        dropped = sum(workload.dropped.values())
        inputs, outputs = (
            sum(getattr(r, name) for r in workload.requests) / count for name in ("input_tokens", "output_tokens")
        )
        typer.echo(
            f"{path}: ok: {count:,} requests in {workload.duration_seconds:,.0f} s ({rate:.3g}/s), "
            f"{inputs:,.0f} tokens in and {outputs:,.0f} out in the mean, "
            f"{workload.rows_read:,} rows = {count:,} + {dropped:,} dropped, workload {workload.content_hash[:12]}"
        )
        for reason, number in workload.dropped.items():
            typer.echo(f"  dropped {number:,}: {reason}")
        for note in workload.notes:
            typer.echo(f"  note: {note}")
    if failed:
        raise typer.Exit(2)
