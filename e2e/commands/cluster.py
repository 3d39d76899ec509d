"""`windtunnel cluster`: the stack on a kind cluster, from nothing to a first token through its load balancer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from sim.experiment.errors import InputError

FAILED = 1

cluster = typer.Typer(
    help="The stack on a kind cluster: make it, look at it, take it down.",
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[str, typer.Option(help="the cluster's name")]
Kubeconfig = Annotated[
    Path | None, typer.Option(help="an existing cluster instead: it is neither made nor deleted, images are not loaded")
]


@cluster.command()
def up(
    name: Name = "windtunnel",
    workers: Annotated[int, typer.Option(help="worker nodes", min=1, max=9)] = 2,
    components: Annotated[
        Path | None,
        typer.Option(help="other versions of the platform's components, as manifests/components.yaml has them"),
    ] = None,
    node_image: Annotated[
        str | None, typer.Option(help="kind's node image (default: kindest/node of components)")
    ] = None,
    api_port: Annotated[int | None, typer.Option(help="the API server's port here (default: kind's choice)")] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="build the images again")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="delete a cluster of that name first")] = False,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Make a cluster that serves, stage by stage; a run that broke off goes on where it was.

    preflight → cluster → images → platform → stack → first token through the virtual address, by TLS

    windtunnel cluster up

    windtunnel cluster up --components old-ingress.yaml --workers 1
    """
    from e2e.cluster.ascent import stages_of
    from e2e.cluster.nodes import Nodes
    from e2e.cluster.place import API_HOST, PAGE_HOST, Place
    from e2e.cluster.programs import StageFailed
    from e2e.cluster.stack import require_door
    from e2e.cluster.stages import run
    from e2e.components import read_components

    place = Place.of(name, kubeconfig)
    versions = read_components(components)
    nodes = Nodes(place, node_image or f"kindest/node:{versions['kubernetes'].version}", workers, api_port)
    began = time.monotonic()
    try:
        stages = stages_of(place, nodes, versions, rebuild=rebuild, fresh=fresh)
        run(stages)
        door = require_door(place)
    except StageFailed as error:
        typer.echo(
            f"error: {error}\n`windtunnel cluster up` goes on from there; `windtunnel cluster logs` has more", err=True
        )
        raise typer.Exit(FAILED) from error
    typer.echo(
        f"up in {time.monotonic() - began:.0f} s\n"
        f"page   https://{PAGE_HOST}/        (in /etc/hosts: {door.address} {PAGE_HOST} {API_HOST})\n"
        f"api    https://{API_HOST}/v1\n"
        f"key    {place.key_file}\n"
        f"trust  {place.authority}\n"
        f"export KUBECONFIG={place.kubeconfig}"
    )


@cluster.command()
def status(name: Name = "windtunnel", kubeconfig: Kubeconfig = None) -> None:
    """Say what runs, and whether a token comes through; exit 1 when none does."""
    from e2e.cluster.place import Place
    from e2e.cluster.programs import StageFailed
    from e2e.cluster.stack import require_door

    place = Place.of(name, kubeconfig)
    try:
        programs = place.programs
        typer.echo(programs.must("kubectl", "get", "nodes", "-o", "wide", seconds=30))
        typer.echo(programs.must("kubectl", "get", "pods", "--all-namespaces", "-o", "wide", seconds=30))
        problem = require_door(place).first_token()
    except StageFailed as error:
        problem = str(error)
    if problem:
        typer.echo(f"no token comes through: {problem}", err=True)
        raise typer.Exit(FAILED)
    typer.echo("a token comes through the virtual address")


@cluster.command()
def down(name: Name = "windtunnel") -> None:
    """Delete the cluster, and what this machine keeps of it."""
    import shutil

    from e2e.cluster.nodes import Nodes
    from e2e.cluster.place import Place
    from e2e.cluster.programs import StageFailed

    place = Place.of(name)
    try:
        Nodes(place, "").delete()
    except StageFailed as error:
        raise InputError(str(error)) from error
    shutil.rmtree(place.directory)
    typer.echo(f"cluster {name} is gone")


@cluster.command()
def logs(
    name: Name = "windtunnel",
    out: Annotated[Path, typer.Option(help="where to write the bundle")] = Path("cluster-logs.tar.gz"),
    kubeconfig: Kubeconfig = None,
) -> None:
    """Write a bundle of states, events and logs, without secrets."""
    from e2e.cluster.diagnostics import bundle
    from e2e.cluster.place import Place

    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no directory {out.parent}")
    names = bundle(Place.of(name, kubeconfig), out)
    typer.echo(f"{out}: {len(names)} files")
