"""The file of a timeline: which stretch of a flight is drawn, so that a browser can open it, and writing it whole.

A UI in a browser takes some hundred megabytes of JSON; a longer flight is cut where that is reached, and the caller is
told how to ask for the rest.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from sim.experiment.errors import InputError
from sim.experiment.record import RunRecord
from sim.experiment.report.perfetto import WHOLE, Stretch, trace_events
from sim.experiment.units import seconds, written

MOST_EVENTS = 1_000_000
"""Some 150 MB of JSON, 15 MB of it gzipped."""

EVENTS_PER_REQUEST = 6
_LINES = 4096


def stretch_of(text: str | None) -> Stretch:
    """Read `10m,12m`, from and to; None is the whole flight.

    Raises:
        InputError: it is no such pair.
    """
    if text is None:
        return WHOLE
    try:
        begin, end = (seconds(part.strip()) for part in text.strip("[] ").split(","))
    except ValueError as error:
        raise InputError(f"--trace-window {text}: expected two durations, from and to, such as 10m,12m") from error
    if begin >= end:
        raise InputError(f"--trace-window {text}: is empty; expected a later end")
    return Stretch(begin, end)


def write_trace(record: RunRecord, path: Path, stretch: Stretch = WHOLE, most_events: int = MOST_EVENTS) -> str | None:
    """Write the timeline of a run, or of a stretch of it; gzipped where the name ends with .gz.

    Returns what the reader should know: that it was cut, and how to see the rest; None: nothing.

    Raises:
        InputError: it cannot be written there; nothing is left behind.
    """
    cut = _cut_at(record, stretch, most_events)
    drawn = stretch if cut is None else Stretch(stretch.begin, cut)
    try:
        with ExitStack() as stack:
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            stack.callback(Path(name).unlink, missing_ok=True)
            with os.fdopen(descriptor, "wb") as file:
                _write(record, drawn, file, is_gzipped=path.suffix == ".gz")
            Path(name).chmod(0o644)
            os.replace(name, path)
    except OSError as error:
        raise InputError(f"--trace {path}: cannot be written: {error.strerror}") from error
    if cut is None:
        return None
    begin, end = written(round(drawn.begin, 1)), written(round(cut, 1))
    return f"{path}: holds {begin} to {end}, as much as a browser opens; --trace-window {end},LATER shows what follows"


def _write(record: RunRecord, stretch: Stretch, file: BinaryIO, *, is_gzipped: bool) -> None:
    with ExitStack() as stack:
        out = file
        if is_gzipped:
            out = cast("BinaryIO", stack.enter_context(gzip.GzipFile("", "wb", 6, file, mtime=0)))
        out.write(b'{"displayTimeUnit":"ms","traceEvents":[\n')
        for number, lines in enumerate(_batches(record, stretch)):
            out.write((",\n" if number else "").encode() + lines.encode())
        out.write(b"\n]}\n")


def _batches(record: RunRecord, stretch: Stretch) -> Iterator[str]:
    lines: list[str] = []
    for event in trace_events(record, stretch):
        lines.append(json.dumps(event, separators=(",", ":"), allow_nan=False))
        if len(lines) == _LINES:
            yield ",\n".join(lines)
            lines.clear()
    if lines:
        yield ",\n".join(lines)


def _cut_at(record: RunRecord, stretch: Stretch, most: int) -> float | None:
    """Return the time at which a stretch has as many events as there may be; None: all of it has not."""
    instants = np.concatenate(
        [
            np.repeat(np.asarray(record.requests["sent"], dtype=np.float64), EVENTS_PER_REQUEST),
            np.asarray([begin for _, begin, *_ in record.steps], dtype=np.float64),
            *(np.asarray(instants, dtype=np.float64) for _, _, instants, _ in record.samples.series()),
        ]
    )
    instants = np.sort(instants[(instants >= stretch.begin) & (instants <= stretch.end)])
    return float(instants[most]) if len(instants) > most else None
