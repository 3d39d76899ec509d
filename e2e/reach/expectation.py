"""Intent in a small YAML, held against what manifests (or a cluster) really open.

    closed: true            # nothing passes between workloads in scope but what is allowed here (default: false)
    scope: [llm/*]          # workloads that `closed` speaks of (default: all)
    allow:
      - {from: ingress-nginx/*, to: llm/gateway, ports: [8080]}
      - {from: outside, to: ingress-nginx/*}      # without ports: on at least one
    deny:
      - {from: "*", to: llm/vault}                # without ports: on none

`from` and `to` are patterns over namespace/name, or `outside`; ports are `8080`, `TCP 8000-8010`, `UDP 53`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from e2e.reach.fields import Field
from e2e.reach.parties import Party
from e2e.reach.ports import ALL, LAST, NONE, PROTOCOLS, PortSet
from e2e.reach.reachability import Reach
from sim.experiment.errors import InputError

KEYS = ("closed", "scope", "allow", "deny")
OUTSIDE = "outside"
PORTS = re.compile(r"(?:(?P<protocol>[A-Za-z]+)[ /])?(?P<first>\d+)(?:-(?P<last>\d+))?")


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of `allow` or `deny`; ports None: any (allow), all (deny)."""

    path: str
    source: str
    destination: str
    ports: PortSet | None


@dataclass(frozen=True, slots=True)
class Intent:
    """What somebody wants to be so."""

    allow: tuple[Line, ...]
    deny: tuple[Line, ...]
    is_closed: bool
    scope: tuple[str, ...]


def read_intent(path: Path) -> Intent:
    """Read an intent.

    Raises:
        InputError: the file cannot be read, or a field in it cannot be used.
    """
    from e2e.reach.reading import yaml_documents

    try:
        documents = yaml_documents(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    root = Field(documents[0] if documents else None, f"{path}: ")
    for key in root.mapping():
        Field(key, f"{path}: key").one_of(KEYS)
    closed: Any = root["closed"].value
    if closed not in (None, True, False):
        root["closed"].refuse("true or false")
    allow = tuple(_line(one) for one in root["allow"].items())
    deny = tuple(_line(one) for one in root["deny"].items())
    if not (allow or deny or closed):
        raise InputError(f"{path}: says nothing: expected allow, deny or closed: true")
    return Intent(allow, deny, bool(closed), tuple(one.text() for one in root["scope"].items()) or ("*",))


def broken(reach: Reach, intent: Intent) -> list[str]:
    """Return what is not as intended, a line each; empty if all is.

    Raises:
        InputError: a pattern matches nobody, so that the line could never be broken.
    """
    found = [said for line in intent.allow for said in _not_allowed(reach, line)]
    found += [said for line in intent.deny for said in _not_denied(reach, line)]
    return found + (list(_beyond(reach, intent)) if intent.is_closed else [])


def _not_allowed(reach: Reach, line: Line) -> Iterator[str]:
    for source, destination in _pairs(reach, line):
        ports = reach.between(source, destination)
        if line.ports is None and not ports:
            yield f"{source} => {destination} : should reach it on some port, is denied  [{line.path}]"
        elif line.ports is not None and (missing := line.ports - ports):
            yield f"{source} => {destination} : should be open and is not: {missing}  [{line.path}]"


def _not_denied(reach: Reach, line: Line) -> Iterator[str]:
    for source, destination in _pairs(reach, line):
        if excess := reach.between(source, destination) & (line.ports or ALL):
            yield f"{source} => {destination} : should be closed and is open: {excess}  [{line.path}]"


def _beyond(reach: Reach, intent: Intent) -> Iterator[str]:
    in_scope = {party.name for pattern in intent.scope for party in _matching(reach.workloads, pattern, "scope")}
    allowed: dict[tuple[str, str], list[PortSet]] = {}
    for line in intent.allow:
        for source, destination in _pairs(reach, line):
            allowed.setdefault((source.name, destination.name), []).append(line.ports or ALL)
    for one in reach.connections():
        if one.source.name in in_scope or one.destination.name in in_scope:
            said = allowed.get((one.source.name, one.destination.name))
            if excess := one.ports - (PortSet.union(said) if said else NONE):
                yield f"{one} : open beyond what is allowed: {excess}"


def _pairs(reach: Reach, line: Line) -> Iterator[tuple[Party, Party]]:
    sources = _matching((*reach.workloads, *reach.sources_outside), line.source, f"{line.path}.from")
    destinations = _matching((*reach.workloads, *reach.destinations_outside), line.destination, f"{line.path}.to")
    for source in sources:
        for destination in destinations:
            if source is not destination and (source.pods or destination.pods):
                yield source, destination


def _matching(parties: tuple[Party, ...], pattern: str, path: str) -> list[Party]:
    if pattern == OUTSIDE:
        return [party for party in parties if party.outside]
    found = [party for party in parties if party.pods and _is_called(party, pattern)]
    if not found:
        raise InputError(f"{path}: {pattern!r} matches no workload; expected `outside` or a pattern such as llm/*")
    return found


def _is_called(party: Party, pattern: str) -> bool:
    return fnmatchcase(party.name.rpartition("[")[0], pattern) or party.name == pattern


def _line(found: Field) -> Line:
    for key in found.mapping():
        Field(key, f"{found.path}: key").one_of(("from", "to", "ports"))
    ports = [_port_set(one) for one in found["ports"].items()]
    return Line(found.path, found["from"].text(), found["to"].text(), PortSet.union(ports) if ports else None)


def _port_set(found: Field) -> PortSet:
    parts = PORTS.fullmatch(str(found.value))
    protocol = ((parts["protocol"] or "TCP") if parts else "").upper()
    first = int(parts["first"]) if parts else 0
    last = int(parts["last"] or first) if parts else 0
    if protocol not in PROTOCOLS or not 1 <= first <= last <= LAST:
        found.refuse("a port or range such as 8080, TCP 8000-8010 or UDP 53")
    return PortSet.of(protocol, first, last)
