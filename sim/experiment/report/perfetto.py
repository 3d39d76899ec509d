"""A run as a timeline for the Perfetto UI, in the trace event format: requests, steps, queues and faults.

A process for each replica: the requests it answered as pairs of phases (waiting for the first token, answering), its
steps as far as the rung saw them, its gauges as counters. A process for faults and scaling, and one for requests that
nobody answered. Times are microseconds from the run's zero.
Format: "Trace Event Format" of Chromium's tracing documentation; ui.perfetto.dev opens it as it is, gzipped too.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from math import isnan
from pathlib import Path
from typing import Any

from sim.experiment.errors import InputError
from sim.experiment.record import RunRecord

EVENTS, UNANSWERED = "faults and scaling", "not answered"
STEPS_TRACK = 1


def write_trace(record: RunRecord, path: Path) -> None:
    """Write the timeline of a run; gzipped where the name ends with .gz.

    Raises:
        InputError: it cannot be written there.
    """
    document = {"displayTimeUnit": "ms", "traceEvents": list(trace_events(record))}
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    try:
        path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)
    except OSError as error:
        raise InputError(f"--trace {path}: cannot be written: {error.strerror}") from error


def trace_events(record: RunRecord) -> Iterator[dict[str, Any]]:
    """Give the events of a run, process by process."""
    names = _Processes()
    body = [
        *_happenings(record, names),
        *_gauges(record, names),
        *_steps(record, names),
        *_requests(record, names),
    ]
    yield from names.events()
    yield from body


class _Processes:
    """Numbers for the processes of the timeline, in the order in which they are met."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers) + 1)

    def events(self) -> Iterator[dict[str, Any]]:
        """Give the names, and the tracks of steps."""
        for name, number in self._numbers.items():
            yield {"ph": "M", "name": "process_name", "pid": number, "args": {"name": name}}
            yield {"ph": "M", "name": "thread_name", "pid": number, "tid": STEPS_TRACK, "args": {"name": "steps"}}


def _happenings(record: RunRecord, names: _Processes) -> Iterator[dict[str, Any]]:
    for index, event in enumerate(record.events):
        if event["at"] is None:
            continue
        about = {"name": f"{event['kind']} {event['target']}", "cat": "event", "pid": names[EVENTS], "tid": index + 2}
        about |= {"ts": _us(event["at"]), "args": {"about": event["about"]}}
        if event["lasts"]:
            yield about | {"ph": "X", "dur": _us(event["lasts"])}
        else:
            yield about | {"ph": "i", "s": "g"}


def _gauges(record: RunRecord, names: _Processes) -> Iterator[dict[str, Any]]:
    for at, component, measure, value in record.samples:
        if not isnan(value):
            pid = names[_plain(component)]
            yield {"ph": "C", "name": measure, "pid": pid, "ts": _us(at), "args": {"value": value}}


def _steps(record: RunRecord, names: _Processes) -> Iterator[dict[str, Any]]:
    for replica, begin, end, count, decoding, prefill_tokens in record.steps:
        what = "prefill" if prefill_tokens and not decoding else "mixed" if prefill_tokens else "decode"
        yield {
            "ph": "X",
            "name": what if count == 1 else f"{what} × {count}",
            "cat": "step",
            "pid": names[replica],
            "tid": STEPS_TRACK,
            "ts": _us(begin),
            "dur": _us(end - begin),
            "args": {"steps": count, "decoding": decoding, "prefill_tokens": prefill_tokens},
        }


def _requests(record: RunRecord, names: _Processes) -> Iterator[dict[str, Any]]:
    rows = record.requests
    columns = ("index", "endpoint", "traffic_class", "sent", "first_token", "ended", "status", "reason")
    for index, endpoint, kind, sent, first, ended, status, reason in zip(
        *(rows[name] for name in columns), strict=True
    ):
        if isnan(sent) or isnan(ended):
            continue
        span = {"cat": "request", "id": index, "pid": names[endpoint or UNANSWERED]}
        args = {name: rows[name][index] for name in ("input_tokens", "output_tokens", "cached_tokens", "attempts")}
        args |= {"status": status, "class": kind} | ({"reason": reason} if reason else {})
        yield span | {"ph": "b", "name": f"request {index}", "ts": _us(sent), "args": args}
        middle = ended if isnan(first) else first
        yield span | {"ph": "b", "name": "first token", "ts": _us(sent)}
        yield span | {"ph": "e", "name": "first token", "ts": _us(middle)}
        if not isnan(first):
            yield span | {"ph": "b", "name": "answer", "ts": _us(first)}
            yield span | {"ph": "e", "name": "answer", "ts": _us(ended)}
        yield span | {"ph": "e", "name": f"request {index}", "ts": _us(ended)}


def _plain(component: str) -> str:
    """Name a component as its requests do: `replica/vllm-0` is `vllm-0`."""
    return component.removeprefix("replica/")


def _us(seconds: float) -> float:
    return round(seconds * 1e6, 3)
