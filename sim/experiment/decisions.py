"""What a router decided in a run: rows over one flat list, so that a decision costs six values and no object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

Decision = tuple[float, int, int, str, str, tuple[tuple[str, float], ...]]
"""(seconds, request index, attempt, endpoint or "" when refused, reason, scores)."""

_WIDTH = 6


class Decisions(Sequence[Decision]):
    """Rows of a list that holds the values of one after the other. To be read only."""

    __slots__ = ("_values",)

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    @overload
    def __getitem__(self, place: int) -> Decision: ...
    @overload
    def __getitem__(self, place: slice) -> list[Decision]: ...
    def __getitem__(self, place: int | slice) -> Decision | list[Decision]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        first = range(len(self))[place] * _WIDTH
        at, index, attempt, endpoint, reason, scores = self._values[first : first + _WIDTH]
        return at, index, attempt, endpoint, reason, scores

    def __iter__(self) -> Iterator[Decision]:
        values = iter(self._values)
        return zip(values, values, values, values, values, values, strict=True)

    def __len__(self) -> int:
        return len(self._values) // _WIDTH

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it may grow

    def __repr__(self) -> str:
        return repr(list(self))
