"""Reading metrics pages."""

from __future__ import annotations

import re

_ENDPOINT = re.compile(r'endpoint="([^"]*)"')


def gauges(page: str) -> dict[str, float]:
    """Return the gauges and counters of a component, summed over their labels."""
    found: dict[str, float] = {}
    for name, _, value in _lines(page):
        found[name] = found.get(name, 0.0) + value
    return found


def by_endpoint(page: str, gauge: str) -> dict[str, float]:
    """Return one gauge of the router by its label `endpoint`."""
    found: dict[str, float] = {}
    for name, labels, value in _lines(page):
        label = _ENDPOINT.search(labels)
        if name == gauge and label is not None:
            found[label[1]] = value
    return found


def _lines(page: str) -> list[tuple[str, str, float]]:
    lines = (line.rpartition(" ") for line in page.splitlines() if line and line[0] != "#")
    return [(series.partition("{")[0], series, float(value)) for series, _, value in lines]
