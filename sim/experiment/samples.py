"""What was sampled of a run: a series for each measure of each component, and all of it as rows.

A second of a flight samples every replica, so what is kept is numbers in lists and no object a sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

Sample = tuple[float, str, str, float]
"""(seconds, component such as `replica/vllm-0`, measure such as `queue_depth`, value)."""


class Samples:
    """The series of one run, in the order in which they began. Iterating gives rows, series after series."""

    __slots__ = ("_series",)

    def __init__(self, rows: Iterable[Sample] = ()) -> None:
        self._series: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
        for at, component, measure, value in rows:
            known = self._series.get((component, measure))
            if known is None:
                known = self._series[component, measure] = ([], [])
            known[0].append(at)
            known[1].append(value)

    def add(self, component: str, measure: str, instants: list[float], values: list[float]) -> None:
        """Put in a series: seconds, ascending, and a value for each. Both lists may still grow, the instants shared.

        Raises:
            ValueError: there is one of this component and measure.
        """
        if (component, measure) in self._series:
            raise ValueError(f"{component}: {measure} is sampled already; expected one series of each")
        self._series[component, measure] = (instants, values)

    def copy(self) -> Samples:
        """Give another one with the same series, to which more can be added."""
        copied = Samples()
        copied._series = dict(self._series)
        return copied

    def series(self) -> Iterator[tuple[str, str, list[float], list[float]]]:
        """Give (component, measure, instants, values) of each series that has any."""
        for (component, measure), (instants, values) in self._series.items():
            if values:
                yield component, measure, instants, values

    def __iter__(self) -> Iterator[Sample]:
        for component, measure, instants, values in self.series():
            for at, value in zip(instants, values, strict=True):
                yield at, component, measure, float(value)

    def __len__(self) -> int:
        return sum(len(values) for _, values in self._series.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Samples) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __repr__(self) -> str:
        return f"Samples({list(self)})"
