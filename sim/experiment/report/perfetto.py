"""A run as a timeline for the Perfetto UI, in the trace event format: requests, steps, queues and faults.

A process for each replica: the requests it answered as pairs of phases (waiting for the first token, answering), its
steps as far as the rung saw them, the faults that hit it, its gauges as counters. A process for each pool with what its
replicas hold together, one for the router with the requests that it had to decide about again (arrows lead from try to
try), one for faults and scaling, and one for requests that nobody answered. Times are microseconds from the run's zero.
Format: "Trace Event Format" of Chromium's tracing documentation; ui.perfetto.dev opens it as it is, gzipped too.
`perfetto_file` writes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from math import inf, isnan
from typing import Any

from sim.experiment.record import RunRecord

EVENTS, UNANSWERED, ROUTER = "faults and scaling", "not answered", "router"
STEPS_TRACK = 1
DECISIONS_TRACK = 2
HAPPENINGS_TRACK = 3
"""And those after it: one for each fault, because faults overlap."""

DECISION_SECONDS = 1e-6
"""A decision takes no time; an arrow needs something to begin and end at."""

Events = Iterator[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Stretch:
    """The part of a flight that is drawn, in seconds: whatever is under way in it, whole."""

    begin: float = 0.0
    end: float = inf

    def meets(self, begin: float, end: float) -> bool:
        """Say whether something that goes on from `begin` to `end` is under way in it."""
        return begin <= self.end and end >= self.begin


WHOLE = Stretch()


def trace_events(record: RunRecord, stretch: Stretch = WHOLE) -> Events:
    """Give the events of a run: each process's name before the first event of it."""
    names = _Processes()
    yield from names.named(
        chain(
            _happenings(record, stretch),
            _gauges(record, stretch),
            _pool_gauges(record, stretch),
            _decisions(record, stretch),
            _steps(record, stretch),
            _requests(record, stretch),
        )
    )


class _Processes:
    """Numbers for the processes of the timeline, in the order in which they are met."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def named(self, events: Events) -> Events:
        """Replace the name of each event's process by its number, and say the name before it is used."""
        numbers = self._numbers
        for event in events:
            name = event["pid"]
            if name not in numbers:
                numbers[name] = len(numbers) + 1
                yield _meta("process_name", numbers[name], name=name)
                if name == ROUTER:
                    yield _meta("thread_name", numbers[name], DECISIONS_TRACK, name="decided again")
                elif name != EVENTS:
                    yield _meta("thread_name", numbers[name], STEPS_TRACK, name="steps")
            event["pid"] = numbers[name]
            yield event


def _meta(what: str, pid: int | str, tid: int | None = None, **args: Any) -> dict[str, Any]:
    track = {} if tid is None else {"tid": tid}
    return {"ph": "M", "name": what, "pid": pid, **track, "args": args}


def _happenings(record: RunRecord, stretch: Stretch) -> Events:
    """Faults and scaling: all of them in a process of their own, and what hit a replica at that replica."""
    known = {_plain(component) for component, *_ in record.samples.series()} | set(record.requests.get("endpoint", ()))
    for index, event in enumerate(record.events):
        at, lasts = event["at"], event["lasts"] or 0.0
        if at is None or not stretch.meets(at, at + lasts):
            continue
        name, tid = f"{event['kind']} {event['target']}", index + HAPPENINGS_TRACK
        yield _meta("thread_name", EVENTS, tid, name=name)
        about = {"name": name, "cat": "event", "pid": EVENTS, "tid": tid, "ts": _us(at)}
        about |= {"args": {"about": event["about"]}}
        if not lasts:
            yield about | {"ph": "i", "s": "g"}
            continue
        yield about | {"ph": "X", "dur": _us(lasts)}
        for place, hit in enumerate(str(event["about"]).split(", ")):
            if hit in known:
                slice_of = {"cat": "fault", "id": f"{index}.{place}", "pid": hit, "name": event["kind"]}
                yield slice_of | {"ph": "b", "ts": _us(at), "args": {"target": event["target"]}}
                yield slice_of | {"ph": "e", "ts": _us(at + lasts)}


def _gauges(record: RunRecord, stretch: Stretch) -> Events:
    for at, component, measure, value in record.samples:
        if stretch.meets(at, at) and not isnan(value):
            yield _counter(_plain(component), measure, at, value)


def _pool_gauges(record: RunRecord, stretch: Stretch) -> Events:
    """What the replicas of a pool hold together: running, and waiting for a seat."""
    sums: dict[tuple[float, str, str], float] = defaultdict(float)
    for at, component, measure, value in record.samples:
        kind, _, name = component.partition("/")
        if kind == "replica" and measure in ("running", "queue_depth") and stretch.meets(at, at) and not isnan(value):
            sums[at, name.rpartition("-")[0], measure] += value
    for (at, pool, measure), value in sums.items():
        if pool:
            yield _counter(f"pool/{pool}", measure, at, value)


def _counter(pid: str, measure: str, at: float, value: float) -> dict[str, Any]:
    return {"ph": "C", "name": measure, "pid": pid, "ts": _us(at), "args": {"value": value}}


def _decisions(record: RunRecord, stretch: Stretch) -> Events:
    """The decisions about requests that were decided about more than once, with arrows from one to the next."""
    by_request: dict[int, list[int]] = defaultdict(list)
    for place, decision in enumerate(record.decisions):
        by_request[decision[1]].append(place)
    again = {index: places for index, places in by_request.items() if len(places) > 1}
    drawn = sorted(place for places in again.values() for place in places)
    flows = {place: "stf"[_role(places, place)] for places in again.values() for place in places}
    instants = sorted({record.decisions[place][0] for place in drawn})
    gaps = {at: later - at for at, later in pairwise(instants)}
    for place in drawn:
        at, index, attempt, endpoint, reason, _ = record.decisions[place]
        if not stretch.meets(at, at):
            continue
        track = {"pid": ROUTER, "tid": DECISIONS_TRACK, "ts": _us(at)}
        args = {"request": index, "attempt": attempt, "endpoint": endpoint, "reason": reason}
        name = f"request {index} to {endpoint}" if endpoint else f"request {index} refused"
        lasts = min(DECISION_SECONDS, gaps.get(at, inf))
        yield track | {"ph": "X", "name": name, "cat": "decision", "dur": _us(lasts), "args": args}
        yield track | {"ph": flows[place], "bp": "e", "name": "tried again", "cat": "retry", "id": index}


def _role(places: list[int], place: int) -> int:
    """Return 0 for the first of an arrow's places, 2 for the last, 1 between."""
    return 0 if place == places[0] else 2 if place == places[-1] else 1


def _steps(record: RunRecord, stretch: Stretch) -> Events:
    for replica, begin, end, count, decoding, prefill_tokens in record.steps:
        if not stretch.meets(begin, end):
            continue
        what = "prefill" if prefill_tokens and not decoding else "mixed" if prefill_tokens else "decode"
        yield {
            "ph": "X",
            "name": what if count == 1 else f"{what} × {count}",
            "cat": "step",
            "pid": replica,
            "tid": STEPS_TRACK,
            "ts": _us(begin),
            "dur": _us(end - begin),
            "args": {"steps": count, "decoding": decoding, "prefill_tokens": prefill_tokens},
        }


def _requests(record: RunRecord, stretch: Stretch) -> Events:
    rows = record.requests
    columns = ("index", "endpoint", "sent", "first_token", "ended")
    for place, (index, endpoint, sent, first, ended) in enumerate(zip(*(rows[name] for name in columns), strict=True)):
        if isnan(sent) or isnan(ended) or not stretch.meets(sent, ended):
            continue
        span = {"cat": "request", "id": index, "pid": endpoint or UNANSWERED}
        yield span | {"ph": "b", "name": f"request {index}", "ts": _us(sent), "args": _about(rows, place)}
        middle = ended if isnan(first) else first
        yield span | {"ph": "b", "name": "first token", "ts": _us(sent)}
        yield span | {"ph": "e", "name": "first token", "ts": _us(middle)}
        if not isnan(first):
            yield span | {"ph": "b", "name": "answer", "ts": _us(first)}
            yield span | {"ph": "e", "name": "answer", "ts": _us(ended)}
        yield span | {"ph": "e", "name": f"request {index}", "ts": _us(ended)}


def _about(rows: dict[str, list[Any]], place: int) -> dict[str, Any]:
    """Give what a request's slice tells when it is clicked."""
    names = ("input_tokens", "output_tokens", "cached_tokens", "attempts", "sends", "endpoint", "tenant", "status")
    args = {name: rows[name][place] for name in names}
    args |= {"class": rows["traffic_class"][place], "scheduled_seconds": rows["scheduled"][place]}
    if not isnan(rows["first_token"][place]):
        args["ttft_ms"] = round((rows["first_token"][place] - rows["scheduled"][place]) * 1e3, 3)
    return args | ({"reason": rows["reason"][place]} if rows["reason"][place] else {})


def _plain(component: str) -> str:
    """Name a component as its requests do: `replica/vllm-0` is `vllm-0`."""
    return component.removeprefix("replica/")


def _us(seconds: float) -> float:
    return round(seconds * 1e6, 3)
