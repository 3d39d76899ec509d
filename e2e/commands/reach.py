"""`windtunnel reach`: who can reach whom under network policies, predicted from manifests and measured on a cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.experiment.errors import InputError

if TYPE_CHECKING:
    from e2e.reach.objects import Cluster
    from e2e.reach.reachability import Reach

FORMATS = ("table", "connlist", "json", "dot", "html")
DIFFERENT = 1
INVALID = 3


def reach(
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="files, directories, kustomizations, or - for standard input; or: diff OLD NEW"),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="read a running cluster through kubectl")] = False,
    format: Annotated[str, typer.Option(help=" | ".join(FORMATS))] = "table",
    out: Annotated[Path | None, typer.Option(help="write here instead of printing")] = None,
    expect: Annotated[Path | None, typer.Option(help="a YAML of intent; exit 1 with what is not so")] = None,
    explain: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B:PORT", help="name the policies that let A reach B, or keep it from B"),
    ] = None,
    host_network: Annotated[
        str | None,
        typer.Option(help="pods on their node's network count as node | pod (default: node; with connlist: pod)"),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="try every ordered pair and port on the live cluster, canaries first; exit 1 with what is not as "
            "predicted (manifests given: their policies are the prediction)",
        ),
    ] = False,
    settle: Annotated[float, typer.Option(help="seconds until a connection must be as predicted", min=0)] = 20.0,
    namespaces: Annotated[
        str | None, typer.Option("--namespaces", help="with --measure: only pods of these, comma-separated")
    ] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="of the cluster, for --live")] = None,
    context: Annotated[str | None, typer.Option(help="of the kubeconfig, for --live")] = None,
) -> None:
    """Print who can reach whom on which port, by NetworkPolicy v1.

    windtunnel reach manifests/llm/overlays/kind

    windtunnel reach DIR --explain llm/gateway llm/router:8080

    windtunnel reach DIR --expect intent.yaml

    windtunnel reach diff OLD NEW

    kustomize build DIR | windtunnel reach - --format html --out matrix.html
    """
    if format not in FORMATS:
        raise InputError(f"--format: expected one of {', '.join(FORMATS)}, found {format!r}")
    if host_network not in (None, "node", "pod"):
        raise InputError(f"--host-network: expected node or pod, found {host_network!r}")
    is_node = (host_network or ("pod" if format == "connlist" else "node")) == "node"
    if paths and paths[0] == "diff" and len(paths) == 3:
        raise typer.Exit(_diff(paths[1], paths[2], is_node, out))
    if measure:
        raise typer.Exit(_measure(paths or [], kubeconfig, context, settle, namespaces))
    if bool(paths) == live:
        raise InputError("reach: name files or directories of manifests, or --live for a running cluster")
    found = _prepared(paths or [], live, kubeconfig, context, is_node)
    if explain is not None:
        raise typer.Exit(_explain(found, *explain))
    if expect is not None:
        raise typer.Exit(_expect(found, expect))
    _write(_rendering(format, ", ".join(paths or ["live cluster"]))(found), out)


def _prepared(paths: list[str], live: bool, kubeconfig: Path | None, context: str | None, is_node: bool) -> Reach:
    from e2e.reach.parsing import cluster_of
    from e2e.reach.reachability import Reach
    from e2e.reach.reading import read, read_live

    cluster = cluster_of(read_live(kubeconfig, context) if live else read(paths))
    _say_notes(cluster)
    return Reach.of(cluster, host_network_is_node=is_node, match_pod_addresses=live)


def _diff(old: str, new: str, is_node: bool, out: Path | None) -> int:
    from e2e.reach.difference import changes
    from e2e.reach.parsing import cluster_of
    from e2e.reach.reading import read

    found = changes(cluster_of(read([old])), cluster_of(read([new])), host_network_is_node=is_node)
    _write("".join(f"{one}\n" for one in found) or "nothing opens and nothing closes\n", out)
    return DIFFERENT if found else 0


def _explain(found: Reach, source: str, asked: str) -> int:
    from e2e.reach.explanation import asked as destinations
    from e2e.reach.explanation import explain, find_party

    party = find_party(found, source, "source")
    told = [explain(found, party, destination, port) for destination, port in destinations(found, asked)]
    print("\n".join(str(one) for one in told))
    return 0 if all(one.passes for one in told) else DIFFERENT


def _measure(
    paths: list[str], kubeconfig: Path | None, context: str | None, settle: float, namespaces: str | None
) -> int:
    from e2e.reach.measure.canary import fly_canary
    from e2e.reach.measure.live import measure_live
    from e2e.reach.measure.probing import NodeProber
    from e2e.reach.reading import kubectl

    command, prober = kubectl(kubeconfig, context), NodeProber()
    canary = fly_canary(command, prober)
    print(canary)
    if canary.trouble:
        return INVALID
    only = set(namespaces.split(",")) if namespaces else None
    measured = measure_live(paths, kubeconfig, context, prober, settle_seconds=settle, only=only)
    print(measured)
    return DIFFERENT if measured.wrong else 0


def _expect(found: Reach, path: Path) -> int:
    from e2e.reach.expectation import broken, read_intent

    lines = broken(found, read_intent(path))
    print("\n".join(lines) or f"everything is as {path} intends")
    return DIFFERENT if lines else 0


def _rendering(format: str, title: str) -> Callable[[Reach], str]:
    from e2e.reach import formats
    from e2e.reach.page import page

    renderings: dict[str, Callable[[Reach], str]] = {
        "table": formats.table,
        "connlist": formats.connlist,
        "json": formats.as_json,
        "dot": formats.dot,
        "html": lambda found: page(found, title),
    }
    return renderings[format]


def _say_notes(cluster: Cluster) -> None:
    for note in cluster.notes:
        print(f"note: {note}", file=sys.stderr)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        print(text, end="")
        return
    if not out.parent.is_dir():
        raise InputError(f"{out}: there is no directory {out.parent}")
    half = out.with_name(f".{out.name}.{os.getpid()}")
    half.write_text(text, encoding="utf-8")
    half.replace(out)
    print(out, file=sys.stderr)
