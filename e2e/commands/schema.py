"""`windtunnel schema`: the JSON Schema of scenario files, so that an editor completes and checks them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sim.experiment.errors import InputError


def schema(
    out: Annotated[Path | None, typer.Option(help="write it to a file instead of standard output")] = None,
) -> None:
    """Print the JSON Schema of scenario files: every key with its meaning, its unit and its default.

    For the YAML language server, put this line on top of a scenario:
    # yaml-language-server: $schema=scenario.schema.json
    """
    from sim.experiment.schema import json_schema

    text = json.dumps(json_schema(), indent=2) + "\n"
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written: {error.strerror}") from error
    typer.echo(f"wrote {out}")
