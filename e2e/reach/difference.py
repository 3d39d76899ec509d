"""What a change opens and closes: two clusters compared pair by pair, with the space outside cut alike for both."""

from __future__ import annotations

from dataclasses import dataclass

from e2e.reach.objects import Cluster
from e2e.reach.parties import blocks_of
from e2e.reach.ports import NONE, PortSet
from e2e.reach.reachability import DIRECTIONS, Reach


@dataclass(frozen=True, slots=True)
class Change:
    """What one ordered pair may use now and might not before, and the other way round; one of the two is not empty."""

    source: str
    destination: str
    opened: PortSet
    closed: PortSet
    note: str = ""

    def __str__(self) -> str:
        words = [f"{verb} {ports}" for verb, ports in (("opens", self.opened), ("closes", self.closed)) if ports]
        return f"{self.source} => {self.destination} : {'; '.join(words)}{self.note and f' ({self.note})'}"


def changes(old: Cluster, new: Cluster, *, host_network_is_node: bool) -> list[Change]:
    """Return every pair whose ports differ, in order of name."""
    cuts = {way: blocks_of(old.policies, way) | blocks_of(new.policies, way) for way in DIRECTIONS}
    before, after = (Reach.of(one, host_network_is_node=host_network_is_node, also_cut_at=cuts) for one in (old, new))
    open_before, open_after = _open(before), _open(after)
    known = {party.name for party in before.workloads}, {party.name for party in after.workloads}
    found = []
    for source, destination in sorted(open_before.keys() | open_after.keys()):
        had, has = open_before.get((source, destination), NONE), open_after.get((source, destination), NONE)
        if had != has:
            note = _note(source, destination, *known)
            found.append(Change(source, destination, has - had, had - has, note))
    return found


def _open(reach: Reach) -> dict[tuple[str, str], PortSet]:
    return {(one.source.name, one.destination.name): one.ports for one in reach.connections()}


def _note(source: str, destination: str, before: set[str], after: set[str]) -> str:
    said = []
    for name in (source, destination):
        if name in after - before:
            said.append(f"{name} is new")
        elif name in before - after:
            said.append(f"{name} is gone")
    return ", ".join(said)
