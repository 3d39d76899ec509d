"""The matrix as a page: one file, without a network, in light and dark, and readable on a phone.

A cell tells, on hover, focus or tap, what may pass and which policies decide it in either direction.
"""

from __future__ import annotations

import html
import json
from importlib.resources import files

from e2e.reach.explanation import deciding
from e2e.reach.parties import Party
from e2e.reach.ports import ALL, PortSet
from e2e.reach.reachability import Reach


def page(reach: Reach, title: str) -> str:
    """Return the page."""
    sources = [*reach.workloads, *reach.sources_outside]
    destinations = [*reach.workloads, *reach.destinations_outside]
    told: dict[tuple[str, str, str], int] = {}
    rows = [[_cell(reach, source, destination, told) for destination in destinations] for source in sources]
    data = {
        "sources": [_label(party) for party in sources],
        "destinations": [_label(party) for party in destinations],
        "told": [list(one) for one in told],
        "rows": rows,
    }
    count = len(reach.workloads)
    about = f"{count} workloads, {len(reach.cluster.policies)} policies"
    template = files("e2e.reach").joinpath("page.html").read_text(encoding="utf-8")
    # "<" is written as an escape, so that no name can end the script element
    safe = json.dumps(data, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
    return template.replace("@TITLE@", html.escape(title)).replace("@ABOUT@", about).replace("@DATA@", safe)


def _cell(reach: Reach, source: Party, destination: Party, told: dict[tuple[str, str, str], int]) -> list[int]:
    """Return how open a pair is (0 closed, 1 in part, 2 all, 3 itself) and the number of what is told of it."""
    if source is destination or (source.outside and destination.outside):
        return [3, -1]
    ports = reach.between(source, destination)
    egress = deciding(reach, "egress", source, destination, destination)
    ingress = deciding(reach, "ingress", destination, source, destination)
    number = told.setdefault((str(ports), egress, ingress), len(told))
    return [_openness(ports), number]


def _openness(ports: PortSet) -> int:
    return 2 if ports == ALL else int(bool(ports))


def _label(party: Party) -> list[str]:
    if party.outside:
        return ["outside", str(party.outside)]
    namespace, _, name = party.name.partition("/")
    return [namespace, name]
