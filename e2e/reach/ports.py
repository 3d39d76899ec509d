"""Sets of ports per protocol, exact: what a rule opens, what a pair may use.

A set is, for each of TCP, UDP and SCTP, a row of disjoint inclusive intervals in 1 to 65535. It knows neither
policies nor pods. Start at `PortSet`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

PROTOCOLS = ("SCTP", "TCP", "UDP")
"""In the order in which they are written."""
FIRST, LAST = 1, 65535

Interval = tuple[int, int]
Row = tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class PortSet:
    """One row of intervals a protocol, in the order of `PROTOCOLS`; equal sets compare equal."""

    rows: tuple[Row, Row, Row]

    @classmethod
    def of(cls, protocol: str, first: int = FIRST, last: int = LAST) -> PortSet:
        """Return the ports `first` to `last` of one protocol; none if they are out of order."""
        row: Row = ((first, last),) if first <= last else ()
        return cls(tuple(row if name == protocol else () for name in PROTOCOLS))  # type: ignore[arg-type]

    @classmethod
    def union(cls, sets: Iterable[PortSet]) -> PortSet:
        """Return every port that is in any of them."""
        rows: tuple[list[Interval], ...] = ([], [], [])
        for one in sets:
            if one == ALL:
                return ALL
            for gathered, row in zip(rows, one.rows, strict=True):
                gathered.extend(row)
        return cls(tuple(merged(row) for row in rows))  # type: ignore[arg-type]

    def __and__(self, other: PortSet) -> PortSet:
        if self == ALL or other == ALL:
            return other if self == ALL else self
        return PortSet(tuple(common(*pair) for pair in zip(self.rows, other.rows, strict=True)))  # type: ignore[arg-type]

    def __sub__(self, other: PortSet) -> PortSet:
        pairs = zip(self.rows, other.rows, strict=True)
        return PortSet(tuple(without(*pair) for pair in pairs))  # type: ignore[arg-type]

    def __bool__(self) -> bool:
        return any(self.rows)

    def __contains__(self, port: tuple[str, int]) -> bool:
        protocol, number = port
        return any(first <= number <= last for first, last in self.rows[PROTOCOLS.index(protocol)])

    def __str__(self) -> str:
        if self == ALL:
            return "All Connections"
        said = [f"{name} {_text(row)}" for name, row in zip(PROTOCOLS, self.rows, strict=True) if row]
        return ",".join(said) or "No Connections"


def merged(intervals: Iterable[Interval]) -> Row:
    """Return the intervals in order, with those that touch or overlap made one."""
    found: list[Interval] = []
    for first, last in sorted(intervals):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def common(left: Row, right: Row) -> Row:
    """Return what lies in both rows."""
    return merged((max(a, c), min(b, d)) for a, b in left for c, d in right if max(a, c) <= min(b, d))


def without(left: Row, right: Row) -> Row:
    """Return what lies in the left row and not in the right one."""
    remaining = list(left)
    for first, last in right:
        cut = [(a, min(b, first - 1)) for a, b in remaining] + [(max(a, last + 1), b) for a, b in remaining]
        remaining = [(a, b) for a, b in cut if a <= b]
    return merged(remaining)


def _text(row: Row) -> str:
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in row)


ALL = PortSet((((FIRST, LAST),),) * 3)
NONE = PortSet(((), (), ()))
