"""A cluster's reachability as text: a table, lines as netpol-analyzer's connlist, JSON, and DOT."""

from __future__ import annotations

import json
from typing import Any

from e2e.reach.parties import Party
from e2e.reach.ports import ALL, PROTOCOLS, PortSet
from e2e.reach.reachability import Connection, Reach


def connlist(reach: Reach) -> str:
    """Return a line a pair that may talk, `source => destination : ports`, sorted."""
    return "".join(f"{line}\n" for line in sorted(str(one) for one in reach.connections()))


def table(reach: Reach) -> str:
    """Return a table of sources, destinations and ports, and the services that stand before workloads."""
    rows = [(one.source.name, one.destination.name, str(one.ports)) for one in _sorted(reach)]
    count, policies = len(reach.workloads), len(reach.cluster.policies)
    lines = _aligned([("FROM", "TO", "PORTS"), *rows]) if rows else ["nobody reaches anybody"]
    services = [
        (f"{service.namespace}/{service.name}", f"{port.number}/{port.protocol}", party.name, str(ports))
        for service in reach.cluster.services
        for port in service.ports
        for party, ports in reach.behind(service, port.number)
    ]
    if services:
        lines += ["", *_aligned([("SERVICE", "PORT", "STANDS FOR", "PORTS"), *services])]
    pairs = sum(1 for one in reach.connections() if one.source.pods and one.destination.pods)
    possible = count * (count - 1)
    lines += ["", f"{count} workloads, {policies} policies: {pairs} of {possible} ordered pairs of workloads may talk"]
    return "\n".join(lines) + "\n"


def as_json(reach: Reach) -> str:
    """Return parties, connections (ports by protocol as [first, last] pairs) and services as one JSON object."""
    found: dict[str, Any] = {
        "workloads": [_workload(party, reach) for party in reach.workloads],
        "connections": [
            {"from": one.source.name, "to": one.destination.name, **_ports(one.ports)} for one in _sorted(reach)
        ],
        "services": [
            {
                "service": f"{service.namespace}/{service.name}",
                "backends": [{"workload": party.name, **_ports(ports)} for party, ports in reach.behind(service)],
            }
            for service in reach.cluster.services
        ],
        "notes": list(reach.cluster.notes),
    }
    return json.dumps(found, indent=2) + "\n"


def dot(reach: Reach) -> str:
    """Return a graph for Graphviz, workloads boxed by namespace; pieces of the space outside stand apart."""
    lines = ["digraph reach {", "  rankdir=LR; node [shape=box, fontname=sans]; edge [fontname=sans, fontsize=9];"]
    spaces = sorted({party.namespace or "" for party in reach.workloads})
    for number, space in enumerate(spaces):
        lines.append(f"  subgraph cluster_{number} {{ label={_quoted(space)};")
        lines += [
            f"    {_quoted(party.name)} [label={_quoted(party.name.partition('/')[2])}];"
            for party in reach.workloads
            if party.namespace == space
        ]
        lines.append("  }")
    for one in _sorted(reach):
        style = "" if one.ports != ALL else ", color=gray"
        label = _quoted("all" if one.ports == ALL else str(one.ports))
        lines.append(f"  {_quoted(one.source.name)} -> {_quoted(one.destination.name)} [label={label}{style}];")
    return "\n".join([*lines, "}"]) + "\n"


def _sorted(reach: Reach) -> list[Connection]:
    return sorted(reach.connections(), key=lambda one: (one.source.name, one.destination.name))


def _workload(party: Party, reach: Reach) -> dict[str, Any]:
    return {
        "name": party.name,
        "pods": [f"{pod.namespace}/{pod.name}" for pod in party.pods],
        "ingress_isolated_by": [str(policy) for policy in reach.isolating("ingress", party)],
        "egress_isolated_by": [str(policy) for policy in reach.isolating("egress", party)],
    }


def _ports(ports: PortSet) -> dict[str, Any]:
    named = zip(PROTOCOLS, ports.rows, strict=True)
    return {"ports": str(ports), "intervals": {name: [list(pair) for pair in row] for name, row in named if row}}


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
