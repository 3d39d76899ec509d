"""I9, the one law of leaping: nobody outside can tell. Random traces are flown with leaping on and off, side by side.

LEAP_EXAMPLES in the environment sets how many traces; the traces of one run must have met every kind of thing that can
happen to an engine, or the run proves less than it says.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reference.engine import Engine, EngineSettings, Event, Sequence, StepCost, handed_over

EXAMPLES = int(os.environ.get("LEAP_EXAMPLES", "150"))
RARE = 0.01
"""The share of the traces that must have met a kind, whatever chance does; the rarest kind is in a tenth of them."""


@dataclass(frozen=True)
class Call:
    """`wait` seconds after the call before, or exactly when the next step ends, do `what`."""

    wait: float
    at_boundary: bool
    wakes_first: bool
    what: str
    args: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Trace:
    """Settings, a step cost and calls."""

    settings: dict[str, Any]
    cost: StepCost
    calls: tuple[Call, ...]


def sequence(
    request_id: int, input_tokens: int, output_tokens: int, family: int, block_size: int, role: str = "whole"
) -> Sequence:
    """Make a sequence of a family: family 0 shares nothing; the others share prompts, the odd ones answers too.

    Its role in disaggregation: all of it is computed here, its prompt, or what comes after its prompt.
    """
    hashes: tuple[int, ...] = ()
    if family:
        known = input_tokens + (output_tokens if family % 2 else 0)
        hashes = tuple(family * 10_000 + index for index in range(known // block_size))
    match role:
        case "prompt":
            return Sequence(request_id, input_tokens, 1, hashes, keeps_kv=True)
        case "answer":
            return handed_over(request_id, input_tokens, output_tokens, hashes, cached_tokens=3)
        case "rest":
            return handed_over(request_id, input_tokens, output_tokens + 1, hashes, first_token_tick=0)
        case _:
            return Sequence(request_id, input_tokens, output_tokens, hashes)


@st.composite
def calls(draw: st.DrawFn) -> Call:
    what = draw(st.sampled_from(["submit"] * 12 + ["abort"] * 3 + ["release"] * 2 + ["slow", "stall", "crash", "look"]))
    args: tuple[Any, ...] = ()
    if what == "submit":
        role = draw(st.sampled_from(["whole"] * 5 + ["prompt", "answer", "rest"]))
        args = (draw(st.integers(1, 40)), draw(st.integers(1, 30)), draw(st.integers(0, 3)), role)
    elif what in ("abort", "release"):
        args = (draw(st.integers(0, 5)),)
    elif what == "slow":
        args = (draw(st.sampled_from([0.5, 1.0, 1.7, 3.0])),)
    elif what == "stall":
        args = (draw(st.floats(0, 0.2)),)
    elif what == "crash" and draw(st.integers(0, 3)):
        what = "look"
    wait = draw(st.one_of(st.just(0.0), st.floats(0, 0.02), st.floats(0, 0.5), st.floats(0, 5)))
    return Call(wait, draw(st.booleans()) and draw(st.booleans()), draw(st.booleans()), what, args)


@st.composite
def costs(draw: st.DrawFn) -> StepCost:
    """Give outright costs, and ones as hardware models make them: with knots, and with prompts that cost extra."""
    linear = {
        "overhead": draw(st.sampled_from([0.004, 0.01, 0.0123456789])),
        "per_prefill_token": draw(st.sampled_from([0.0, 1e-5, 3.3e-4])),
        "per_sequence": draw(st.sampled_from([0.0, 1e-4])),
        "per_context_token": draw(st.sampled_from([0.0, 5e-8, 1e-5, 7.7e-4])),
        "context_skew": draw(st.sampled_from([0.0, 0.0, 0.0543, 1.0])),
    }
    if draw(st.booleans()):
        return StepCost(**linear)
    knots = draw(st.sampled_from([(), ((1.0, 0.003), (4.0, 0.0031), (40.0, 0.02)), ((2.0, 0.001), (3.0, 0.0))]))
    return StepCost(
        **linear,
        token_seconds=knots,
        sequence_seconds=draw(st.sampled_from([(), ((1.0, 0.0), (2.0, 0.0017), (5.0, 0.0019))])),
        per_prefill_pair=draw(st.sampled_from([0.0, 1e-6])),
        mixed_overhead=draw(st.sampled_from([0.0, 0.0021])),
        mixed_context=draw(st.sampled_from([0.0, 1e-5])),
    )


@st.composite
def traces(draw: st.DrawFn, rules: str | None = None) -> Trace:
    seats = draw(st.integers(1, 6))
    block_size = draw(st.sampled_from([1, 2, 3, 4, 8, 16]))
    budget = max(seats, draw(st.integers(1, 64)))
    rules = rules or draw(st.sampled_from(["vllm", "vllm", "trt", "trt_max_utilization"]))
    settings = {
        "max_num_seqs": seats,
        "max_num_batched_tokens": max(budget, block_size),
        "max_model_len": 70,
        "block_size": block_size,
        "num_blocks": draw(st.integers(2, 30)) * 8 // block_size + 1,
        "prefix_caching": draw(st.booleans()) or draw(st.booleans()),
        "rules": rules,
        "chunked_prefill": draw(st.sampled_from([None, True])),
    }
    cost = draw(costs())
    num_calls = draw(st.integers(1, 50))
    return Trace(settings, cost, tuple(draw(st.lists(calls(), min_size=num_calls, max_size=num_calls))))


class Flight:
    """One engine, what it said, and what could be seen of it whenever somebody looked."""

    def __init__(self, trace: Trace, leaping: bool) -> None:
        self.engine = Engine(EngineSettings(**trace.settings, leaping=leaping), trace.cost)
        self.engine.spans = self.spans = []
        self.block_size = trace.settings["block_size"]
        self.events: list[Event] = []
        self.seen: list[Any] = []
        self.num_submitted = 0
        self.prompts: list[int] = []

    def pass_time(self, until: float, including: bool) -> None:
        while True:
            wake = self.engine.wake_at()
            if wake is None or wake > until or (wake == until and not including):
                return
            self.events += self.engine.advance(wake)

    def finish(self, now: float) -> None:
        """Go on to the end of the last sequence; whatever KV is kept then is let go, one after the other."""
        self.pass_time(float("inf"), including=True)
        for request_id in range(self.num_submitted):
            now = max([now, *(event.at for event in self.events[-1:])])
            self.seen.append(self.engine.release(request_id, now))
            self.pass_time(float("inf"), including=True)
        if self.engine.num_waiting:
            self.finish(now)

    def do(self, call: Call, now: float) -> None:
        engine = self.engine
        match call.what, call.args:
            case "submit", (input_tokens, output_tokens, family, *role):
                made = sequence(self.num_submitted, input_tokens, output_tokens, family, self.block_size, *role)
                self.seen.append(engine.submit(made, now))
                self.num_submitted += 1
                self.prompts.append(input_tokens)
            case "abort", (back,):
                self.seen.append(engine.abort(max(0, self.num_submitted - 1 - back), now))
            case "release", (back,):
                self.seen.append(engine.release(max(0, self.num_submitted - 1 - back), now))
            case "slow", (factor,):
                engine.slow(factor, now)
            case "stall", (lasts,):
                engine.stall(now + lasts, now)
            case "crash", ():
                self.seen.append(engine.crash(now))
            case _:
                pass
        self.look(now)

    def look(self, now: float) -> None:
        engine = self.engine
        self.events += engine.advance(now)
        generated = [engine.num_generated(request_id) for request_id in range(self.num_submitted)]
        gauges = (engine.num_running, engine.num_waiting, engine.kv_usage)
        assert engine.gauges(now) == gauges
        self.seen.append((now, gauges, generated, engine.counters.as_dict(), engine.gaps.items()))


def fly(trace: Trace, *leapings: bool) -> list[Flight]:
    """Fly a trace on engines side by side, to the end of the last sequence. The last engine tells where steps end."""
    flights = [Flight(trace, leaping) for leaping in leapings]
    now = 0.0
    for call in trace.calls:
        until = now + call.wait
        if call.at_boundary:
            boundary = flights[-1].engine.wake_at()
            if boundary is not None and boundary >= now:
                until = boundary
        now = until
        for flight in flights:
            flight.pass_time(now, including=call.wakes_first)
            if call.wakes_first:
                flight.seen.append(flight.engine.gauges(now))
            flight.do(call, now)
    for flight in flights:
        flight.finish(now)
    return flights


def time_covered(flight: Flight) -> tuple[int, list[tuple[float, float]]]:
    """Give how many steps there were, and the stretches of time without a pause in which they ran."""
    stretches: list[tuple[float, float]] = []
    for begin, end, *_ in flight.spans:
        if stretches and stretches[-1][1] == begin:
            stretches[-1] = (stretches[-1][0], end)
        else:
            stretches.append((begin, end))
    return sum(steps for _, _, steps, *_ in flight.spans), stretches


def kinds(trace: Trace, leaping: Flight, stepping: Flight) -> Iterator[str]:
    """Name what happened in a trace."""
    counters = stepping.engine.counters
    yield f"rules {trace.settings['rules']}"
    yield from (name for name in ("preemptions", "aborted", "lost", "rejected") if getattr(counters, name))
    if counters.cached_tokens:
        yield "prefix hits"
    served = {stepping.prompts[event.request_id] for event in stepping.events}
    if stepping.engine.settings.chunks and max(served, default=0) > trace.settings["max_num_batched_tokens"]:
        yield "chunked prefill"
    for call in trace.calls:
        if call.what in ("slow", "stall", "crash"):
            yield call.what
    if trace.cost.token_seconds or trace.cost.sequence_seconds:
        yield "knots"
    if trace.cost.mixed_overhead or trace.cost.mixed_context:
        yield "mixed steps cost extra"
    if max((steps[2] for steps in leaping.spans), default=0) > 1:
        yield "a leap"


EVERY_KIND = {
    *("rules vllm", "rules trt", "rules trt_max_utilization"),
    *("preemptions", "prefix hits", "chunked prefill", "rejected", "aborted", "lost"),
    *("slow", "stall", "crash", "knots", "mixed steps cost extra", "a leap"),
}


@pytest.mark.timeout(120 + EXAMPLES // 5)
def test_an_engine_that_leaps_and_one_that_steps_cannot_be_told_apart() -> None:
    met: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(trace=traces())
    def flown_side_by_side(trace: Trace) -> None:
        leaping, stepping = fly(trace, True, False)
        assert leaping.events == stepping.events
        assert leaping.seen == stepping.seen
        assert leaping.engine.counters.as_dict() == stepping.engine.counters.as_dict()
        assert leaping.engine.gaps.items() == stepping.engine.gaps.items()
        assert (leaping.engine.kv_usage, leaping.engine.num_running, leaping.engine.num_waiting) == (0, 0, 0)
        assert time_covered(leaping) == time_covered(stepping)
        met.update(set(kinds(trace, leaping, stepping)))

    flown_side_by_side()
    print(dict(sorted(met.items())))
    seldom = {kind: met[kind] for kind in EVERY_KIND if met[kind] < RARE * EXAMPLES}
    assert not seldom, f"of {EXAMPLES} traces too few met these: {seldom}"


def test_a_leap_stops_where_an_eviction_lets_the_head_of_the_queue_in() -> None:
    """The last prompt exceeds the budget and hits a block: without the hit its first chunk needs fewer blocks."""
    settings = {
        "max_num_seqs": 5,
        "max_num_batched_tokens": 32,
        "max_model_len": 70,
        "block_size": 8,
        "num_blocks": 12,
        "rules": "trt_max_utilization",
    }
    asked = [(8, 1, 1), (19, 23, 0), (1, 18, 0), (5, 16, 1), (4, 19, 0), (28, 6, 1)]
    calls = tuple(Call(0.0, at_boundary=False, wakes_first=False, what="submit", args=args) for args in asked)
    leaping, stepping = fly(Trace(settings, StepCost.linear(0.004), calls), True, False)
    assert leaping.events == stepping.events
    assert leaping.engine.counters.preemptions > 0
