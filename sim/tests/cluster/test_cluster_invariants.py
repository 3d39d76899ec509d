"""The numbered invariants of DESIGN.md, over random small clusters with everything that can go wrong in them."""

from __future__ import annotations

from collections import Counter
from math import isnan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.cluster import agenda, clock
from sim.cluster.flight import Flight
from sim.experiment.record import REQUEST_COLUMNS, RunRecord
from sim.experiment.scenario import LoadedScenario
from sim.experiment.schema import Scenario
from sim.experiment.workload import PromptSegment, Workload, WorkloadRequest

STATUSES = {"ok", "refused", "failed", "timed_out", "cancelled"}

# Times on a coarse grid, so that several things often happen at one instant.
instants = st.integers(0, 300).map(lambda tenth: tenth / 10)
spans = st.integers(1, 100).map(lambda tenth: tenth / 10)


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    chance = draw(st.randoms(use_true_random=False))
    times = sorted(chance.randrange(draw(st.sampled_from([20, 300]))) / 10 for _ in range(draw(st.integers(1, 60))))
    requests = []
    for index, at in enumerate(times):
        shared, own = chance.randrange(4), chance.randrange(1, 400)
        prompt = (PromptSegment(shared, 200), PromptSegment(100 + index, own)) if shared else ()
        requests.append(
            WorkloadRequest(
                index,
                at,
                200 * bool(shared) + own,
                chance.randrange(1, 300),
                "m",
                tenant=chance.choice("ab"),
                priority=chance.randrange(3),
                session=chance.choice(["", "s1", "s2"]),
                prompt=prompt,
                deadline_seconds=chance.choice([None, None, 0.05, 0.5, 5.0]),
            )
        )
    return Workload(tuple(requests), times[-1] + 1.0, "hash")


@st.composite
def faults(draw: st.DrawFn, targets: list[str]) -> list[dict[str, Any]]:
    kinds = st.sampled_from(["replica_crash", "node_loss", "slow_replica", "stall", "partition", "error_burst"])
    return [
        {
            "at": draw(instants),
            "kind": draw(kinds),
            "target": draw(st.sampled_from(targets)),
            "lasts": draw(spans),
            "factor": 3.0,
            "share": draw(st.sampled_from([0.3, 1.0])),
        }
        for _ in range(draw(st.integers(0, 4)))
    ]


@st.composite
def disaggregations(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "prefill_replicas": draw(st.integers(1, 2)),
        "prefill": {"max_num_seqs": draw(st.sampled_from([1, 8])), "num_gpu_blocks": draw(st.sampled_from([60, 200]))},
        "first_token": draw(st.sampled_from(["prefill", "decode"])),
        "kv_bytes_per_token": 1000,
        # of the 500 kB of a prompt: no time, some of a step, and a second
        "transfer_gb_per_s": draw(st.sampled_from([1e9, 0.1, 0.0005])),
        "transfer_latency": draw(st.sampled_from([0.0, 0.002])),
    }


@st.composite
def scenarios(draw: st.DrawFn) -> LoadedScenario:
    pool: dict[str, Any] = {
        "model": "m",
        "engine": "vllm",
        "replicas": draw(st.integers(2, 3)),
        "replicas_per_node": draw(st.integers(1, 2)),
        "step_cost": {"base": draw(st.sampled_from([0.01, 0.03125])), "per_context_token": 1e-6},
        "num_gpu_blocks": draw(st.sampled_from([40, 60, 400])),  # with 40, some requests fit no replica
        "max_num_seqs": draw(st.sampled_from([2, 8])),
        "max_num_batched_tokens": draw(st.sampled_from([64, 512])),
        "cold_start": draw(spans),
    }
    if draw(st.booleans()):
        pool["autoscale"] = {"max_replicas": 5, "target": 2.0, "interval": 1.5, "stabilisation": 3.0}
    targets = ["vllm", "vllm-0", "vllm-1", "node-0"]
    if draw(st.booleans()):
        pool["disaggregated"] = draw(disaggregations())
        targets += ["vllm-prefill-0", "vllm-prefill"]
    router = {
        "policy": {"name": draw(st.sampled_from(["least_in_flight", "power_of_two", "prefix_aware", "weighted"]))},
        "queue": {
            "max_requests": draw(st.sampled_from([0, 5, 1000])),
            "max_wait": draw(st.none() | spans),
            "max_in_flight_per_endpoint": draw(st.sampled_from([None, 1, 4])),
        },
        "health_interval": draw(spans),
    }
    gateway: dict[str, Any] = {"replicas": draw(st.integers(1, 2))}
    if draw(st.booleans()):
        gateway["rate_limits"] = [{"tenant": "a", "requests": 1.0, "burst": 2}, {"tenant": "*", "concurrency": 3}]
    fields = {
        "windtunnel": 1,
        "name": "random",
        "seed": draw(st.integers(0, 99)),
        "workload": {"classes": [{"name": "default", "retry": draw(st.sampled_from([None, {"backoff": 0.3}]))}]},
        "cluster": {
            "pools": [pool],
            "router": router,
            "gateway": gateway,
            "network": {"hop": draw(st.sampled_from([0.0, 0.0002]))},
        },
        "faults": draw(faults(targets)),
        "measure": {"sample_interval": 0.5},
    }
    return LoadedScenario(Scenario.model_validate(fields), "", Path("x.yaml"), Path())


few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def flown(loaded: LoadedScenario, workload: Workload, *, leaping: bool = True) -> RunRecord:
    flight = Flight(loaded, workload, leaping=leaping)
    clock = flight.clock
    over = clock.event()

    def land(_: None) -> None:
        over.succeed()

    flight._land = land  # type: ignore[method-assign]
    while not over.processed:
        before = clock.now
        clock.step()
        assert clock.now >= before, f"the clock went back from {before} to {clock.now}"
    record = flight.record()
    record.diagnostics["held"] = {
        squad.name: sum(
            replica.engine.num_running + replica.engine.num_waiting
            for replica in flight.fleet.all_replicas
            if replica.pool == squad.name
        )
        for squad in flight.fleet.squads
    }
    return record


def check_rows(workload: Workload, record: RunRecord) -> None:
    rows = record.requests
    assert set(rows) == set(REQUEST_COLUMNS)
    assert {len(column) for column in rows.values()} == {len(workload.requests)}
    for request, *row in zip(workload.requests, *(rows[name] for name in REQUEST_COLUMNS), strict=True):
        seen = dict(zip(REQUEST_COLUMNS, row, strict=True))
        assert seen["status"] in STATUSES, seen
        chain = [seen["scheduled"], seen["sent"], seen["first_token"], seen["last_token"], seen["ended"]]
        happened = [at for at in chain if not isnan(at)]
        assert happened == sorted(happened), seen
        assert seen["ended"] >= seen["sent"], seen
        if seen["status"] == "ok":
            assert len(happened) == len(chain), seen
            assert seen["output_tokens"] == request.output_tokens, seen
            assert seen["http_status"] == 200, seen
        else:
            assert seen["reason"], seen
        assert isnan(seen["first_token"]) == (seen["output_tokens"] == 0), seen
        assert 0 <= seen["cached_tokens"] < request.input_tokens, seen


def check_engines(record: RunRecord) -> None:
    for name, counters in record.facts["engine"].items():
        ended = counters["finished"] + counters["aborted"] + counters["lost"]
        # whose client has left in the last instant leaves at the end of its step, and that may be after the flight
        assert counters["submitted"] == ended + record.diagnostics["held"][name], counters


def check_work(record: RunRecord, has_stalls: bool) -> None:
    seen: dict[tuple[float, str], dict[str, float]] = {}
    for at, component, measure, value in record.samples:
        assert value >= 0
        seen.setdefault((at, component), {})[measure] = value
    for (at, component), measures in seen.items():
        if component.startswith("replica/"):
            assert measures["kv_usage"] <= 1.0
            # a prompt may have to wait until KV that is to be fetched has left
            is_full = "-prefill-" in component and measures["kv_usage"] > 0
            if not has_stalls and not is_full:
                assert measures["running"] or not measures["queue_depth"], (at, component)


@few
@given(loaded=scenarios(), workload=workloads())
def test_every_request_ends_once_in_order_of_cause_and_no_replica_idles(
    loaded: LoadedScenario, workload: Workload
) -> None:
    """I1, I2, I4, I5."""
    record = flown(loaded, workload)
    check_rows(workload, record)
    check_engines(record)
    check_work(record, any(fault.kind == "stall" for fault in loaded.scenario.faults))
    times = [at for at, *_ in record.decisions]
    assert times == sorted(times)
    statuses = Counter(record.requests["status"])
    assert sum(statuses.values()) == len(workload.requests)
    assert statuses["cancelled"] == 0, "nothing here takes an hour"


@few
@given(loaded=scenarios(), workload=workloads())
def test_when_all_is_over_every_block_of_every_replica_is_free(loaded: LoadedScenario, workload: Workload) -> None:
    """I3."""
    flight = Flight(loaded, workload)
    flight.run()
    flight.clock.run(until=flight.clock.timeout(30.0))
    for replica in flight.fleet.all_replicas:
        engine = replica.engine
        assert (engine.num_running, engine.num_waiting, engine.kv_usage) == (0, 0, 0.0), replica
        assert replica.num_in_flight == 0, replica


class CountingAgenda(agenda.Agenda):
    """An agenda that knows how many of the calls it made were taken."""

    num_taken = 0

    def run(self) -> None:
        while True:
            self.num_taken += 1
            self.step()


@pytest.mark.skipif(agenda.__file__.endswith(".so"), reason="compiled classes are not extended")
@few
@given(loaded=scenarios(), workload=workloads())
def test_every_call_that_was_made_is_taken_or_still_ahead(loaded: LoadedScenario, workload: Workload) -> None:
    """A call gives back the one that follows: whoever forgot to pass it on would lose a request without a word."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "Agenda", CountingAgenda)
        flight = Flight(loaded, workload)
        flight.run()
    ours = flight.clock.agenda
    assert isinstance(ours, CountingAgenda)

    # simpy's two events of the flight's end are put in at the head beside their calls
    ahead = [call for call in ours.queue if call[2]]
    assert ours.num_taken + len(ahead) == ours.serial


@few
@given(loaded=scenarios(), workload=workloads())
def test_the_same_seed_gives_the_same_record_and_leaping_changes_nothing(
    loaded: LoadedScenario, workload: Workload
) -> None:
    """I6, I9."""
    first = flown(loaded, workload)
    for other in (flown(loaded, workload), flown(loaded, workload, leaping=False)):
        for name in ("requests", "samples", "decisions", "events", "gaps", "facts"):
            assert repr(getattr(first, name)) == repr(getattr(other, name)), name
