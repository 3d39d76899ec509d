"""Generated arrival times: constant, Poisson, gamma, stages, diurnal. Seconds from zero, in order."""

from __future__ import annotations

import csv
from math import ceil, isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from sim.experiment.errors import InputError
from sim.experiment.schema import Arrivals
from sim.experiment.units import written

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def arrival_times(
    arrivals: Arrivals, duration: float, base_dir: Path, random: np.random.Generator
) -> NDArray[np.float64]:
    """Draw the arrivals of one window.

    Varying rates are reached by time change: a unit-rate process is drawn and mapped through the inverse of the
    cumulative rate, so burstiness (`cv`) and shape are independent of each other.

    Raises:
        InputError: the curve's file cannot be used.
    """
    import numpy as np

    edges, rates = _rate_profile(arrivals, duration, base_dir)
    cumulative = np.concatenate([[0.0], np.cumsum((rates[:-1] + rates[1:]) / 2 * np.diff(edges))])
    total = float(cumulative[-1])
    ticks = _unit_process(arrivals, total, random)
    return _inverse(ticks, edges, rates, cumulative)


def duration_of(arrivals: Arrivals, given: float | None) -> float | None:
    """Return how long the arrivals go on: as given, or as their stages or their part of the curve say."""
    return natural_duration(arrivals) if given is None else given


def natural_duration(arrivals: Arrivals) -> float | None:
    """Return how long the stages, or the chosen part of the curve, last; None: the process has no end of its own."""
    if arrivals.stages:
        return sum(stage.lasts for stage in arrivals.stages)
    if arrivals.window is not None:
        return (arrivals.window[1] - arrivals.window[0]) / arrivals.compress
    return None


def _unit_process(arrivals: Arrivals, total: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw a process of rate 1 on [0, total)."""
    import numpy as np

    if arrivals.process == "constant":
        # rate times duration is a hair above a whole number as often as below
        return np.arange(ceil(total - 1e-9), dtype=np.float64)
    shape = 1.0 if arrivals.process == "poisson" else 1.0 / arrivals.cv**2
    times: list[NDArray[np.float64]] = []
    reached = 0.0
    while reached < total:
        gaps = random.gamma(shape, 1.0 / shape, max(64, int((total - reached) * 1.1) + 8))
        times.append(reached + np.cumsum(gaps))
        reached = float(times[-1][-1])
    ticks = np.concatenate(times) if times else np.empty(0)
    return ticks[ticks < total]


def _rate_profile(
    arrivals: Arrivals, duration: float, base_dir: Path
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return edges (seconds) and the rate at each; between edges the rate is linear, equal edges make a jump."""
    import numpy as np

    if arrivals.process == "stages":
        edges, rates, at = [], [], 0.0
        for stage in arrivals.stages:
            edges += [at, at + stage.lasts]
            rates += [stage.rate, stage.rate if stage.to_rate is None else stage.to_rate]
            at += stage.lasts
        return _cut(np.asarray(edges), np.asarray(rates), 0.0, duration)
    if arrivals.process == "diurnal":
        return _curve(arrivals, duration, base_dir)
    rate = arrivals.rate or 0.0
    return np.asarray([0.0, duration]), np.asarray([rate, rate])


def _curve(arrivals: Arrivals, duration: float, base_dir: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Take a window of a recorded curve, scale its mean to `rate`, and compress its time."""
    import numpy as np

    times, rates = read_curve(base_dir / str(arrivals.curve))
    start, end = arrivals.window or (times[0], times[-1])
    last = start + duration * arrivals.compress
    # a window that ends where the last point's interval does is inside: the points stand for what follows them
    if start < times[0] or max(end, last) > times[-1] + (times[-1] - times[-2]):
        raise InputError(
            f"the curve goes from {written(times[0])} to {written(times[-1])}; expected a part of that, not "
            f"{written(start)} to {written(max(end, last))}"
        )
    edges, shape = _cut(np.asarray(times), np.asarray(rates), start, end)
    if arrivals.rate is not None:
        mean = float(np.sum((shape[:-1] + shape[1:]) / 2 * np.diff(edges)) / (end - start))
        shape = shape * (arrivals.rate / mean) if mean > 0 else shape
    return _cut((edges - start) / arrivals.compress, shape, 0.0, duration)


def _cut(
    edges: NDArray[np.float64], rates: NDArray[np.float64], start: float, end: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Take the part of a profile between two times, interpolated at both; jumps inside stay jumps."""
    import numpy as np

    inside = (edges > start) & (edges < end)
    # at a jump the part begins after it and ends before it
    first = np.searchsorted(edges, start, side="right") - 1
    last = np.searchsorted(edges, end, side="left")
    at_start = _between(edges, rates, int(first), int(first) + 1, start)
    at_end = _between(edges, rates, int(last) - 1, int(last), end)
    return np.concatenate([[start], edges[inside], [end]]), np.concatenate([[at_start], rates[inside], [at_end]])


def _between(edges: NDArray[np.float64], rates: NDArray[np.float64], left: int, right: int, at: float) -> float:
    left, right = max(left, 0), min(right, len(edges) - 1)
    width = float(edges[right] - edges[left])
    share = min(1.0, (at - float(edges[left])) / width) if width > 0 else 0.0
    return float(rates[left]) + share * float(rates[right] - rates[left])


def read_curve(path: Path) -> tuple[list[float], list[float]]:
    """Read a rate curve, CSV with columns t_s and total_rate_rps (ServeGen's derived files).

    Raises:
        InputError: with file, line and value.
    """
    times: list[float] = []
    rates: list[float] = []
    try:
        with open(path, newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines)
            if not {"t_s", "total_rate_rps"} <= set(reader.fieldnames or ()):
                raise InputError(f"{path}:1: expected columns t_s and total_rate_rps, found {reader.fieldnames}")
            for row in reader:
                at, rate = _number(row["t_s"]), _number(row["total_rate_rps"])
                if at is None or rate is None or rate < 0 or (times and at <= times[-1]):
                    raise InputError(
                        f"{path}:{reader.line_num}: t_s is {row['t_s']!r} and total_rate_rps is "
                        f"{row['total_rate_rps']!r}; expected a later time than before and a rate, 0 or more"
                    )
                times.append(at)
                rates.append(rate)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the rate curve cannot be read: {error}") from error
    if len(times) < 2:
        raise InputError(f"{path}: a rate curve needs at least 2 points, found {len(times)}")
    return times, rates


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if isfinite(number) else None


def _inverse(
    ticks: NDArray[np.float64],
    edges: NDArray[np.float64],
    rates: NDArray[np.float64],
    cumulative: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Map ticks of the unit process to times: solve the quadratic of each linear piece."""
    import numpy as np

    piece = np.clip(np.searchsorted(cumulative, ticks, side="right") - 1, 0, len(edges) - 2)
    left = ticks - cumulative[piece]
    width = edges[piece + 1] - edges[piece]
    slope = np.divide(rates[piece + 1] - rates[piece], width, out=np.zeros_like(width), where=width > 0)
    rate = rates[piece]
    root = np.sqrt(np.maximum(0.0, rate * rate + 2 * slope * left))
    # 2·left / (rate + root) is the stable form for slopes near zero
    offset = np.divide(2 * left, rate + root, out=np.zeros_like(left), where=(rate + root) > 0)
    return edges[piece] + np.minimum(offset, width)
