"""`windtunnel policies`: what the built-in routing policies know and do, and a check of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim.experiment.errors import InputError


def policies(
    check: Annotated[
        str | None, typer.Option(metavar="FILE.py:CLASS", help="check that a policy of your own keeps the contract")
    ] = None,
) -> None:
    """List the routing policies that a scenario can name, with what each knows, does, and takes as options.

    Your own: `policy: {name: my_policies.py:StickyByTenant, options: {max_lead: 4}}` names a class in a file beside the
    scenario; the simulator and the router load the same file.
    """
    if check is not None:
        _check(check)
        return
    from rich.console import Console
    from rich.table import Table

    from reference.policy.routing.registry import ROUTING_POLICIES

    table = Table(show_lines=True)
    for title in ("policy", "knows", "does", "options"):
        table.add_column(title, overflow="fold")
    for name, policy in ROUTING_POLICIES.items():
        options = "\n".join(f"{option}: {meaning}" for option, meaning in policy.options.items())
        table.add_row(name, policy.knows, policy.does, options or "none")
    console = Console()
    console.print(table)
    console.print("fresh: counted by this router. stale: as the last scrape of the endpoint said.")
    console.print("Your own: see scenarios/my_policies.py, and `windtunnel policies --check FILE.py:CLASS`.")


def _check(spec: str) -> None:
    from reference.custom_policy import PolicyError, load_policy_class

    try:
        found = load_policy_class(spec, Path())
    except PolicyError as error:
        raise InputError(str(error)) from error
    typer.echo(f"{spec} keeps the contract: {(found.__doc__ or 'it has no docstring').splitlines()[0]}")
