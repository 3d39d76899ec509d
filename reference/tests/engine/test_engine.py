"""Laws of one replica: nothing is lost, nothing idles, time runs forward; and the two ways of driving agree."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.engine import FINISHED, FIRST_TOKEN, Engine, EngineError, EngineSettings, Event, Sequence, StepCost

TICK = 2.0**-36
COST = StepCost.linear(0.01, 1e-4, 1e-4, 1e-6)
SMALL = {"max_num_seqs": 3, "max_num_batched_tokens": 16, "max_model_len": 64, "block_size": 4, "num_blocks": 20}

requests = st.lists(st.tuples(st.floats(0, 0.2), st.integers(1, 30), st.integers(1, 20)), min_size=1, max_size=25)
rules = st.sampled_from(["vllm", "trt", "trt_max_utilization"])


def submit(engine: Engine, sequence: Sequence, at: float) -> None:
    assert engine.submit(sequence, at) is None
    engine.wake_at()


def drain(engine: Engine, until: float = float("inf")) -> list[Event]:
    events: list[Event] = []
    while (wake := engine.wake_at()) is not None and wake <= until:
        events += engine.advance(wake)
    return events


def fly(engine: Engine, asked: list[tuple[float, int, int]]) -> tuple[list[Event], list[float]]:
    now, events, arrivals = 0.0, [], []
    for index, (gap, input_tokens, output_tokens) in enumerate(asked):
        now += gap
        events += drain(engine, now)
        engine.submit(Sequence(index, input_tokens, output_tokens), now)
        arrivals.append(now)
    return events + drain(engine), arrivals


@settings(max_examples=60, deadline=None)
@given(asked=requests, rule=rules)
def test_every_request_gets_its_first_token_then_its_last_and_none_more(
    asked: list[tuple[float, int, int]], rule: str
) -> None:
    engine = Engine(EngineSettings(**SMALL, rules=rule, chunked_prefill=True), COST)
    events, arrivals = fly(engine, asked)
    assert [event.at for event in events] == sorted(event.at for event in events)
    for index, arrival in enumerate(arrivals):
        first, last = (event for event in events if event.request_id == index)
        assert (first.kind, last.kind) == (FIRST_TOKEN, FINISHED)
        assert arrival < first.at <= last.at
        assert last.output_tokens == asked[index][2]
    assert engine.counters.generated_tokens == sum(output for _, _, output in asked)
    assert engine.counters.finished == len(asked)


@settings(max_examples=60, deadline=None)
@given(asked=requests, rule=rules, looks=st.lists(st.floats(0, 1), max_size=8), seed=st.integers(0, 99))
def test_requests_are_conserved_at_all_times(
    asked: list[tuple[float, int, int]], rule: str, looks: list[float], seed: int
) -> None:
    engine = Engine(EngineSettings(**SMALL, rules=rule), COST)
    now = 0.0
    for index, (gap, input_tokens, output_tokens) in enumerate(asked):
        now += gap
        drain(engine, now)
        engine.submit(Sequence(index, input_tokens, output_tokens), now)
        if (index + seed) % 5 == 0:
            engine.abort((index * 7 + seed) % (index + 1), now)
        if (index + seed) % 19 == 0:
            engine.crash(now)
        for look in looks:
            engine.advance(now := now + look / 100)
            counters = engine.counters
            ended = counters.finished + counters.aborted + counters.lost
            assert counters.submitted == ended + engine.num_waiting + engine.num_running
            assert 0 <= engine.kv_usage <= 1


@settings(max_examples=60, deadline=None)
@given(asked=requests, rule=rules)
def test_no_replica_idles_while_somebody_waits(asked: list[tuple[float, int, int]], rule: str) -> None:
    engine = Engine(EngineSettings(**SMALL, rules=rule, chunked_prefill=True), COST)
    now = 0.0
    for index, (gap, input_tokens, output_tokens) in enumerate(asked):
        now += gap
        drain(engine, now)
        engine.submit(Sequence(index, input_tokens, output_tokens), now)
        wake = engine.wake_at()
        assert wake is not None
        assert engine.num_running > 0
        assert now < wake


@settings(max_examples=60, deadline=None)
@given(gaps=st.lists(st.floats(0, 0.1), min_size=1, max_size=30))
def test_one_seat_and_equal_steps_obey_lindley(gaps: list[float]) -> None:
    """A D/1 queue exactly: an end is the later of arrival and the end before, plus the service time."""
    cost = StepCost.linear(0.03125)
    engine = Engine(EngineSettings(max_num_seqs=1), cost)
    events, arrivals = fly(engine, [(gap, 10, 1) for gap in gaps])
    ends = [event.at for event in events if event.kind == FINISHED]
    before = 0.0
    for arrival, end in zip(arrivals, ends, strict=True):
        began = max(-(-arrival // TICK) * TICK, before)
        assert end == began + 0.03125
        before = end


@settings(max_examples=40, deadline=None)
@given(asked=requests, rule=rules)
def test_a_worker_that_waits_each_step_and_a_simulator_see_the_same_tokens(
    asked: list[tuple[float, int, int]], rule: str
) -> None:
    simulated = Engine(EngineSettings(**SMALL, rules=rule, chunked_prefill=True), COST)
    events, arrivals = fly(simulated, asked)
    worker = Engine(EngineSettings(**SMALL, rules=rule, chunked_prefill=True), COST)
    told: list[tuple[str, int, float]] = []
    due, now = list(enumerate(arrivals)), 0.0
    while due or worker.num_waiting or worker.num_running:
        while due and due[0][1] <= now:
            index, arrival = due.pop(0)
            worker.submit(Sequence(index, *asked[index][1:]), arrival)
        step = worker.begin_step(now)
        if step is None:
            now = -(-due[0][1] // TICK) * TICK
            continue
        end = -(-now // TICK) * TICK + step.seconds
        while due and due[0][1] < end:
            index, arrival = due.pop(0)
            worker.submit(Sequence(index, *asked[index][1:]), arrival)
        for emission in worker.end_step(now := end):
            if emission.output_tokens == 1:
                told.append((FIRST_TOKEN, int(emission.request_id), now))
            if emission.is_finished:
                told.append((FINISHED, int(emission.request_id), now))
    assert sorted(told) == sorted((event.kind, event.request_id, event.at) for event in events)
    assert worker.counters.as_dict() == simulated.counters.as_dict()
    assert worker.gaps.items() == simulated.gaps.items()


def test_everybody_submitted_at_one_instant_shares_the_first_step() -> None:
    engine = Engine(EngineSettings(), COST)
    for index in range(3):
        submit(engine, Sequence(index, 10, 2), 1.0)
    assert [event.at for event in drain(engine) if event.kind == FIRST_TOKEN] == pytest.approx([1.0133] * 3)


def test_whoever_comes_while_a_step_runs_waits_for_its_end() -> None:
    engine = Engine(EngineSettings(), StepCost.linear(1.0))
    submit(engine, Sequence("first", 10, 5), 0.0)
    submit(engine, Sequence("second", 10, 5), 2.5)
    firsts = {event.request_id: event.at for event in drain(engine) if event.kind == FIRST_TOKEN}
    assert firsts == {"first": 1.0, "second": 4.0}


def test_an_aborted_sequence_says_nothing_more_and_frees_its_blocks_at_the_end_of_the_step() -> None:
    engine = Engine(EngineSettings(), StepCost.linear(1.0))
    submit(engine, Sequence("leaves", 100, 50), 0.0)
    submit(engine, Sequence("stays", 100, 5), 0.0)
    assert engine.advance(2.5) != []
    assert engine.num_generated("leaves") == 2
    assert engine.abort("leaves", 2.5)
    assert engine.num_running == 2
    events = engine.advance(3.0)
    assert engine.num_running == 1
    events += drain(engine)
    assert {event.request_id for event in events} == {"stays"}
    assert not engine.abort("leaves", 9.0)


def test_a_slow_replica_takes_longer_from_the_next_step_on() -> None:
    engine = Engine(EngineSettings(), StepCost.linear(1.0))
    submit(engine, Sequence("a", 10, 5), 0.0)
    engine.slow(3.0, 1.5)
    engine.slow(1.0, 5.5)
    assert [event.at for event in drain(engine)] == [1.0, 2.0 + 3.0 + 3.0 + 1.0]


def test_a_stalled_replica_ends_its_step_and_begins_none_until_the_stall_is_over() -> None:
    engine = Engine(EngineSettings(), StepCost.linear(1.0))
    submit(engine, Sequence("a", 10, 3), 0.0)
    engine.stall(10.0, 0.5)
    assert [event.at for event in drain(engine)] == [1.0, 12.0]
    assert engine.gaps.count == 2
    assert engine.gaps.mean_seconds == pytest.approx((10.0 + 1.0) / 2, rel=0.004)


def test_a_crash_loses_everybody_and_the_prefix_cache_and_the_replica_serves_on() -> None:
    engine = Engine(EngineSettings(), StepCost.linear(1.0))
    hashes = tuple(range(6))
    submit(engine, Sequence("a", 100, 50, hashes), 0.0)
    submit(engine, Sequence("b", 100, 50, hashes), 2.5)
    assert [event.request_id for event in engine.advance(2.75)] == ["a"]
    assert engine.crash(2.75) == ["a", "b"]
    assert (engine.num_running, engine.num_waiting, engine.kv_usage) == (0, 0, 0)
    submit(engine, Sequence("a", 100, 1, hashes), 2.75)
    (first, _) = drain(engine)
    assert (first.at, first.cached_tokens) == (3.75, 0), "the step that ran is gone, too"


def test_what_can_never_be_served_is_refused_with_the_reason() -> None:
    engine = Engine(EngineSettings(max_model_len=100, num_blocks=5, max_num_batched_tokens=256), COST)
    reasons = [
        (Sequence(1, 90, 20), "110 tokens of input and output exceed max_model_len 100"),
        (Sequence(2, 80, 20), "100 tokens need 7 KV blocks; the replica has 5"),
        (Sequence(3, 0, 20), "both must be at least 1"),
    ]
    for sequence, reason in reasons:
        rejected = engine.submit(sequence, 0.0)
        assert rejected is not None
        assert reason in rejected.reason
    assert engine.wake_at() is None
    assert engine.counters.rejected == 3


def test_a_sequence_is_submitted_once() -> None:
    engine = Engine(EngineSettings(), COST)
    sequence = Sequence("a", 10, 5)
    submit(engine, sequence, 0.0)
    for again in (sequence, Sequence("a", 10, 5)):
        with pytest.raises(EngineError, match="already in an engine"):
            engine.submit(again, 0.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_num_seqs": 0}, "max_num_seqs is 0"),
        ({"rules": "vlm"}, "known are trt, trt_max_utilization, vllm"),
        ({"max_num_seqs": 512, "max_num_batched_tokens": 256}, "could not decode in one step"),
    ],
)
def test_settings_that_cannot_work_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        EngineSettings(**fields)


def test_times_stay_in_step_beyond_what_floats_tell_exactly() -> None:
    engine = Engine(EngineSettings(), COST)
    start = 2.0**18 + 0.3
    submit(engine, Sequence("a", 10, 200), start)
    events = drain(engine)
    assert [event.kind for event in events] == [FIRST_TOKEN, FINISHED]
    assert all(left < right for left, right in pairwise([start, *(event.at for event in events)]))


@given(
    contexts=st.lists(st.integers(1, 300), min_size=1, max_size=6),
    skew=st.sampled_from([0.0, 0.0543, 1.0]),
)
def test_the_longest_sequence_holds_up_the_others_as_far_as_the_skew_says(contexts: list[int], skew: float) -> None:
    per_token = 2.0**-20
    engine = Engine(EngineSettings(), StepCost(overhead=0.01, per_context_token=per_token, context_skew=skew))
    for number, tokens in enumerate(contexts):
        submit(engine, Sequence(number, tokens, 2), 0.0)
    events = drain(engine)
    first, last = events[0].at, events[-1].at
    attended = sum(tokens + 1 for tokens in contexts)
    longest = len(contexts) * (max(contexts) + 1)

    assert last - first == pytest.approx(0.01 + per_token * (attended + round(skew * (longest - attended))))
