"""`windtunnel images`: build the container images of the reference stack, and list those that are here."""

from __future__ import annotations

import os
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

import typer

from sim.experiment.errors import InputError

if TYPE_CHECKING:
    pass

BUILD_SECONDS = 3600.0

images = typer.Typer(
    help="Build the container images of the reference stack, or list them.",
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Tag = Annotated[str | None, typer.Option(help="the images' tag (default: the project's version)")]
Prefix = Annotated[str, typer.Option(help="what stands before an image's name, such as registry.example.org/llm")]


@images.command("build")
def build_images(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="which (default: all but bert's and the engines')"),
    ] = None,
    tag: Tag = None,
    prefix: Prefix = "windtunnel",
    base: Annotated[str | None, typer.Option(help="another base image, which may be pinned by its digest")] = None,
    variant: Annotated[str, typer.Option(help="another Containerfile: cpu, for vllm-worker")] = "",
    network: Annotated[str, typer.Option(help="the network of the build; empty: the builder's own")] = "host",
) -> None:
    """Build images as PREFIX/NAME:TAG.

    pip finds packages in the build where it finds them here (PIP_INDEX_URL and the like, or pip's own settings); an
    image keeps nothing of it.

    windtunnel images build

    windtunnel images build vllm-worker --variant cpu --tag dev
    """
    from e2e.images.catalogue import checkout, named
    from e2e.images.docker import build, build_command, inspect, pip_arguments
    from e2e.images.sources import pip_settings, revision

    root, wanted = checkout(), named(names or ())
    for image in wanted:
        if variant and variant not in image.variants:
            told = f"has {', '.join(image.variants)}" if image.variants else "has none"
            raise InputError(f"--variant {variant}: {image.name} {told}")
    chosen = tag or version("windtunnel")
    arguments = {"VERSION": chosen, "REVISION": revision(root), **pip_arguments(os.environ, pip_settings())}
    for image in wanted:
        reference = f"{prefix}/{image.name}:{chosen}"
        own = {image.base_argument: base} if base else {}
        print(f"{reference} …", file=sys.stderr, flush=True)
        began = time.monotonic()
        command = build_command(image, reference, arguments={**arguments, **own}, network=network, variant=variant)
        build(command, root, {**arguments, **own}, BUILD_SECONDS)
        built = inspect(reference)
        if built is None:
            raise InputError(f"{reference}: was built, but docker does not know it")
        typer.echo(f"{reference}  {built['Size'] / 1e6:,.0f} MB  {time.monotonic() - began:.0f} s")


@images.command("list")
def list_images(tag: Tag = None, prefix: Prefix = "windtunnel") -> None:
    """List the images, and of those that are here the size, the revision and who they run as."""
    from rich.console import Console
    from rich.table import Table

    from e2e.images.catalogue import IMAGES
    from e2e.images.docker import inspect

    table = Table()
    for title in ("image", "what it is", "size", "version", "revision", "runs as"):
        table.add_column(title, justify="right" if title == "size" else "left", overflow="fold")
    for image in IMAGES.values():
        reference = f"{prefix}/{image.name}:{tag or version('windtunnel')}"
        found = inspect(reference)
        if found is None:
            table.add_row(reference, image.about, "not here", "", "", "")
            continue
        labels = found["Config"].get("Labels") or {}
        table.add_row(
            reference,
            image.about,
            f"{found['Size'] / 1e6:,.0f} MB",
            labels.get("org.opencontainers.image.version", ""),
            labels.get("org.opencontainers.image.revision", "")[:12],
            found["Config"].get("User") or "root",
        )
    Console().print(table)
