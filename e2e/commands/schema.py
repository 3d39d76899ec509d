"""`windtunnel schema`: the JSON Schema of scenario files, so that an editor completes and checks them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def schema(
    out: Annotated[Path | None, typer.Option(help="write it to a file instead of standard output")] = None,
) -> None:
    """Print the JSON Schema of scenario files.

    For the YAML language server, put this line on top of a scenario:
    # yaml-language-server: $schema=scenario.schema.json
    """
    from sim.experiment.schema import Scenario

    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Scenario.model_json_schema()}
    text = json.dumps(document, indent=2) + "\n"
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text)
        typer.echo(f"wrote {out}")
