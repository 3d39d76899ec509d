"""Replicas that come and go: how late they come, and that nobody loses a request when they go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sim.experiment.record import RunRecord

Fly = Callable[..., RunRecord]

SCALE = {"max_replicas": 6, "target": 4.0, "interval": 5.0, "stabilisation": 20.0}


def events_of(record: RunRecord, kind: str) -> list[dict[str, Any]]:
    return [event for event in record.events if event["kind"] == kind]


def ready(record: RunRecord) -> dict[float, float]:
    return {at: value for at, component, name, value in record.samples if (component, name) == ("pool/vllm", "ready")}


@pytest.fixture
def burst(workload: Any) -> Any:
    """Twelve requests a second, each a second long, from 10 s to 60 s; a trickle before and after."""
    trickle = [(float(second), 8, 10) for second in (*range(10), *range(60, 120))]
    rush = [(10 + number / 12, 8, 100) for number in range(600)]
    return workload(*sorted(trickle + rush), duration=120.0)


def test_a_replica_asked_for_serves_after_its_cold_start(scenario: Any, burst: Any, flown: Fly) -> None:
    """The load begins at 10 s; the autoscaler looks each 5 s; the cold start takes 7 s, the health check up to 2 s."""
    record = flown(scenario(pool={"replicas": 1, "autoscale": SCALE, "cold_start": 7.0}), burst)
    asked = events_of(record, "scale_up")[0]["at"]
    assert asked == 15.0
    came = [event for event in events_of(record, "replica_ready") if event["at"] == asked + 7.0]
    assert came
    first_sent = min(at for at, _, _, name, *_ in record.decisions if name != "vllm-0")
    assert asked + 7.0 <= first_sent <= asked + 7.0 + 2.0 + 0.1
    assert ready(record)[21.0] == 1
    assert ready(record)[22.0] == 1 + len(came)


def test_the_lag_of_an_autoscaler_is_the_sum_of_its_parts(scenario: Any, burst: Any, flown: Fly) -> None:
    """Interval, age of the readings, scheduling, image, weights, readiness, health check: each is in the events.

    The load begins at 10 s. It is read at 15 s at the latest and decided about 4 s later; a new node takes the replica
    after 6 s, and pulls 2 s, loads 3 s, warms up 5 s; the router finds it within 2 s.
    """
    startup = {"scheduling": 6.0, "image_gb": 4.0, "pull_gb_per_s": 2.0, "weights_gb": 6.0, "load_gb_per_s": 2.0}
    pool = {"replicas": 1, "autoscale": SCALE | {"metrics_delay": 4.0}, "startup": startup | {"readiness": 5.0}}
    record = flown(scenario(pool=pool), burst)
    asked = events_of(record, "scale_up")[0]
    assert asked["at"] in (14.0, 19.0)
    assert asked["about"].endswith("; looks each 5 s, read 4 s ago")
    came = events_of(record, "replica_ready")[0]
    assert came["at"] == asked["at"] + 6.0 + 2.0 + 3.0 + 5.0
    assert came["about"].endswith("; scheduling 6 s, image 2 s, weights 3 s, readiness 5 s")
    first_sent = min(at for at, _, _, name, *_ in record.decisions if name != "vllm-0")
    assert came["at"] <= first_sent <= came["at"] + 2.0 + 0.1


def test_old_readings_tell_of_old_load(scenario: Any, burst: Any, flown: Fly) -> None:
    """What is decided at a time is what would have been decided by readings without delay that much earlier."""
    asked = {
        delay: [
            (event["at"] - delay, event["about"].split(";")[0])
            for event in flown(
                scenario(pool={"replicas": 1, "cold_start": 60.0, "autoscale": SCALE | {"metrics_delay": delay}}), burst
            ).events
            if event["kind"] == "scale_up"
        ]
        for delay in (0.0, 3.0)
    }
    assert asked[0.0][0] == asked[3.0][0]


def test_a_longer_cold_start_makes_the_burst_worse(scenario: Any, burst: Any, flown: Fly) -> None:
    """With a batch of four a replica alone cannot keep up."""
    slow, fast = (
        flown(
            scenario(pool={"replicas": 1, "max_num_seqs": 4, "autoscale": SCALE, "cold_start": cold_start}), burst
        ).requests["ended"]
        for cold_start in (30.0, 2.0)
    )
    assert sum(slow) > sum(fast) * 1.01


def test_scaling_down_waits_for_its_window_and_loses_nobody(scenario: Any, burst: Any, flown: Fly) -> None:
    record = flown(scenario(pool={"replicas": 1, "autoscale": SCALE, "cold_start": 2.0}), burst)
    assert set(record.requests["status"]) == {"ok"}
    shrunk = [event["at"] for event in events_of(record, "scale_down")]
    assert shrunk
    assert min(shrunk) >= 60.0 + SCALE["stabilisation"] - SCALE["interval"]
    assert ready(record)[120.0] == 1
    removed = events_of(record, "replica_removed")
    assert len(removed) == max(ready(record).values()) - 1


def test_the_bill_is_for_replicas_from_the_asking_to_the_removal(scenario: Any, burst: Any, flown: Fly) -> None:
    record = flown(scenario(pool={"replicas": 1, "autoscale": SCALE, "cold_start": 2.0}), burst)
    seconds = record.facts["flown_seconds"]
    for event in record.events:
        if event["kind"] == "scale_up":
            before, after = (int(word) for word in event["about"].split(":")[0].split(" to "))
            seconds += (after - before) * (record.facts["flown_seconds"] - event["at"])
        if event["kind"] == "replica_removed":
            seconds -= record.facts["flown_seconds"] - event["at"]
    assert record.facts["replica_seconds"]["vllm"] == pytest.approx(seconds)


def test_a_draining_replica_finishes_what_it_has_and_gets_nothing_new(scenario: Any, workload: Any, flown: Fly) -> None:
    """Two long answers are under way when the load is gone; the replica to be drained keeps its own to the end."""
    longs = [(0.0, 8, 3000), (0.1, 8, 3000)]
    scale = {"max_replicas": 2, "target": 5.0, "interval": 5.0, "stabilisation": 0.0}
    record = flown(
        scenario(pool={"replicas": 2, "autoscale": scale}), workload(*longs, *((10.0 + n, 8, 10) for n in range(15)))
    )
    assert events_of(record, "scale_down")[0]["at"] == 5.0
    assert set(record.requests["status"]) == {"ok"}
    assert not [at for at, _, _, name, *_ in record.decisions if name == "vllm-1" and at > 5.0]
    (removed,) = events_of(record, "replica_removed")
    assert removed["target"] == "vllm-1"
    assert removed["at"] == pytest.approx(30.1, abs=0.05)
