"""Sets of IP addresses, exact: a policy's ipBlock, and the pieces into which such blocks cut what is outside.

IPv4 and IPv6 are two number lines; a set is a row of inclusive intervals on each. Start at `AddressSet` and `pieces`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import pairwise

from e2e.reach.ports import Row, merged, without

SPAN = {4: (0, 2**32 - 1), 6: (0, 2**128 - 1)}
"""First and last address of each version, as numbers."""


@dataclass(frozen=True, slots=True)
class AddressSet:
    """The addresses of one version (4 or 6) that lie in `row`."""

    version: int
    row: Row

    @classmethod
    def block(cls, cidr: str, excepted: Sequence[str] = ()) -> AddressSet:
        """Return a CIDR without the CIDRs excepted from it.

        Raises:
            ValueError: a CIDR cannot be read, or an exception lies outside of the block; the text says which.
        """
        network = ip_network(cidr, strict=False)
        holes = []
        for text in excepted:
            hole = ip_network(text, strict=False)
            if hole.version != network.version or not _span(hole)[0] >= _span(network)[0] <= _span(hole)[1]:
                raise ValueError(f"{text!r} does not lie within {cidr!r}")
            if _span(hole)[1] > _span(network)[1]:
                raise ValueError(f"{text!r} does not lie within {cidr!r}")
            holes.append(_span(hole))
        return cls(network.version, without((_span(network),), merged(holes)))

    def __contains__(self, address: str) -> bool:
        parsed = ip_address(address)
        return parsed.version == self.version and any(a <= int(parsed) <= b for a, b in self.row)


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """A stretch of addresses outside of the cluster, both ends included."""

    version: int
    first: int
    last: int

    def __str__(self) -> str:
        kind = IPv4Address if self.version == 4 else IPv6Address
        return f"{kind(self.first)}-{kind(self.last)}"

    def within(self, addresses: AddressSet) -> bool:
        """Say whether all of it lies in the set; it must not be cut by the set's borders."""
        return self.version == addresses.version and any(a <= self.first and self.last <= b for a, b in addresses.row)


def pieces(sets: Iterable[AddressSet], versions: Iterable[int]) -> list[Range]:
    """Cut each version's whole space at the sets' borders, and join neighbours that lie in the same sets."""
    known = sorted(set(sets), key=lambda one: (one.version, one.row))
    return [piece for version in sorted(set(versions)) for piece in _cut(version, known)]


def _cut(version: int, sets: list[AddressSet]) -> list[Range]:
    first, last = SPAN[version]
    relevant = [one for one in sets if one.version == version]
    borders = {first, last + 1}
    for one in relevant:
        borders.update(edge for a, b in one.row for edge in (a, b + 1))
    found: list[tuple[Range, tuple[bool, ...]]] = []
    for start, end in pairwise(sorted(borders)):
        piece = Range(version, start, end - 1)
        inside = tuple(piece.within(one) for one in relevant)
        if found and found[-1][1] == inside:
            piece = Range(version, found.pop()[0].first, end - 1)
        found.append((piece, inside))
    return [piece for piece, _ in found]


def _span(network: object) -> tuple[int, int]:
    return int(network.network_address), int(network.broadcast_address)  # type: ignore[attr-defined]
