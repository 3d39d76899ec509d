"""Reading the metrics page of a process on loopback."""

from __future__ import annotations

import re
import urllib.request

_ENDPOINT = re.compile(r'endpoint="([^"]*)"')


def gauges(url: str) -> dict[str, float]:
    """Return the gauges and counters of a component, summed over their labels; empty when it does not answer."""
    found: dict[str, float] = {}
    for name, _, value in _lines(url):
        found[name] = found.get(name, 0.0) + value
    return found


def by_endpoint(url: str, gauge: str) -> dict[str, float]:
    """Return one gauge of the router by its label `endpoint`."""
    found: dict[str, float] = {}
    for name, labels, value in _lines(url):
        label = _ENDPOINT.search(labels)
        if name == gauge and label is not None:
            found[label[1]] = value
    return found


def _lines(url: str) -> list[tuple[str, str, float]]:
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=1) as answer:
            text = answer.read().decode()
    except OSError:
        return []
    lines = (line.rpartition(" ") for line in text.splitlines() if line and line[0] != "#")
    return [(series.partition("{")[0], series, float(value)) for series, _, value in lines]
