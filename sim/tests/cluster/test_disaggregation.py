"""Prefill/decode disaggregation: prompts on replicas of their own, KV over a link, and what that does to whom."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.cluster.flight import Flight
from sim.experiment.record import RunRecord
from sim.experiment.scenario import LoadedScenario
from sim.experiment.schema import Scenario
from sim.experiment.workload import PromptSegment, Workload, WorkloadRequest
from sim.hardware import price_per_hour_usd

HOP, OVERHEAD = 0.0002, 0.001
COST = {"base": 0.01, "per_prefill_token": 1e-4, "per_sequence": 1e-4, "per_context_token": 1e-6}
PER_TOKEN = 1000
"""Bytes of KV."""

ARRIVES = HOP + OVERHEAD + HOP + OVERHEAD + HOP
"""From a client to a replica that idles."""
BACK = 3 * HOP


def pool(replicas: int = 1, prefill_replicas: int = 1, **given: Any) -> dict[str, Any]:
    """A pool of decode replicas with prefill replicas beside them and a link of 1 MB/s: a millisecond a token."""
    fields = {"prefill_replicas": prefill_replicas, "kv_bytes_per_token": PER_TOKEN, "transfer_gb_per_s": 0.001}
    return {
        "model": "m",
        "replicas": replicas,
        "step_cost": COST,
        "num_gpu_blocks": 4096,
        "disaggregated": fields | {"transfer_latency": 0.0} | given,
    }


def fly(*requests: Any, pool: dict[str, Any], **blocks: Any) -> Flight:
    """Fly requests, given as (scheduled, input tokens, output tokens); `same` holds for each."""
    same = blocks.pop("same", {})
    cluster = {"pools": [pool], "router": blocks.pop("router", {})}
    fields = {"windtunnel": 1, "name": "test", "workload": {}, "cluster": cluster, **blocks}
    loaded = LoadedScenario(Scenario.model_validate(fields), "", Path("test.yaml"), Path())
    made = tuple(
        one if isinstance(one, WorkloadRequest) else WorkloadRequest(index, *one, "m", **same)
        for index, one in enumerate(requests)
    )
    flight = Flight(loaded, Workload(made, made[-1].scheduled + 1.0, "hash"))
    flight.run()
    return flight


def rows(flight: Flight, *names: str) -> list[tuple[Any, ...]]:
    record = flight.record()
    return list(zip(*(record.requests[name] for name in names), strict=True))


def prefill_seconds(tokens: int) -> float:
    return COST["base"] + COST["per_prefill_token"] * tokens + COST["per_sequence"]


def tpot(record: RunRecord, index: int) -> float:
    seen = {name: record.requests[name][index] for name in ("first_token", "last_token", "output_tokens")}
    return (seen["last_token"] - seen["first_token"]) / (seen["output_tokens"] - 1)


@settings(max_examples=25, deadline=None)
@given(tokens=st.integers(1, 2000), answer=st.integers(2, 50), latency=st.sampled_from([0.0, 0.005]))
def test_the_first_token_takes_a_prefill_and_the_second_a_transfer_and_a_step(
    tokens: int, answer: int, latency: float
) -> None:
    flight = fly((0.0, tokens, answer), pool=pool(transfer_latency=latency))
    ((first, last, status),) = rows(flight, "first_token", "last_token", "status")
    asks = 2 * HOP
    moves = tokens * PER_TOKEN / 1e6 + latency
    steps = sum(
        COST["base"] + COST["per_sequence"] + COST["per_context_token"] * (tokens + k) for k in range(1, answer)
    )
    assert status == "ok"
    assert first == pytest.approx(ARRIVES + prefill_seconds(tokens) + BACK, abs=1e-6)
    assert last - first == pytest.approx(asks + moves + steps, abs=1e-6), "but for ticks"


@settings(max_examples=25, deadline=None)
@given(tokens=st.integers(1, 2000), answer=st.integers(1, 50))
def test_alone_and_over_an_infinite_link_it_takes_what_one_replica_takes_but_for_two_hops(
    tokens: int, answer: int
) -> None:
    apart = fly((0.0, tokens, answer), pool=pool(transfer_gb_per_s=1e12))
    whole = fly((0.0, tokens, answer), pool={**pool(), "disaggregated": None})
    ((first, last),), ((first_whole, last_whole),) = (
        rows(flight, "first_token", "last_token") for flight in (apart, whole)
    )
    assert first == first_whole
    assert last == pytest.approx(last_whole + (2 * HOP if answer > 1 else 0.0), abs=1e-6)


def test_an_answer_does_not_feel_the_prompts_of_others_as_it_does_in_one_replica() -> None:
    crowd = [(0.5 + 0.05 * k, 1500, 2) for k in range(20)]
    paces = {}
    for name, block in (("apart", pool()["disaggregated"]), ("whole", None)):
        alone = fly((0.0, 100, 300), pool={**pool(), "disaggregated": block}).record()
        among = fly((0.0, 100, 300), *crowd, pool={**pool(), "disaggregated": block}).record()
        paces[name] = tpot(among, 0) / tpot(alone, 0)
    assert paces["apart"] < 1.03, "their own single tokens come and go"
    assert paces["whole"] > 1.5


def test_a_link_sends_one_prompt_after_the_other_and_each_replica_has_its_own() -> None:
    requests = [(0.0, 500, 2), (0.0, 500, 2)]
    one, two = (rows(fly(*requests, pool=pool(prefill_replicas=count)), "last_token") for count in (1, 2))
    assert one[1][0] - one[0][0] == pytest.approx(0.5, abs=0.02)
    assert two[1][0] - two[0][0] < 0.05


def test_the_blocks_of_a_prompt_stay_taken_until_its_kv_is_through() -> None:
    flight = fly((0.0, 1000, 50), pool=pool(), measure={"sample_interval": 0.1})
    usage = {
        (name, round(at, 1)): value for at, name, measure, value in flight.record().samples if measure == "kv_usage"
    }
    share = -(-1000 // 16) / 4096
    assert usage["replica/vllm-prefill-0", 0.5] == usage["replica/vllm-prefill-0", 1.0] == share
    assert usage["replica/vllm-0", 1.0] == 0
    assert usage["replica/vllm-prefill-0", 1.2] == 0
    assert usage["replica/vllm-0", 1.2] >= share


def test_a_slow_link_holds_up_the_prompts_behind_it_by_their_memory() -> None:
    few = pool(prefill={"num_gpu_blocks": 70})
    requests = [(0.0, 1000, 2), (0.1, 1000, 2)]
    (narrow, wide) = (rows(fly(*requests, pool=block), "first_token")[1][0] for block in (few, pool()))
    assert narrow > 1.0 > 0.3 > wide


def test_a_single_token_needs_no_handover() -> None:
    flight = fly((0.0, 1000, 1), pool=pool())
    ((first, last, endpoint),) = rows(flight, "first_token", "last_token", "endpoint")
    assert first == last == pytest.approx(ARRIVES + prefill_seconds(1000) + BACK)
    assert endpoint == "vllm-prefill-0"


def test_the_first_token_may_come_from_the_decode_replica_after_the_transfer() -> None:
    flight = fly((0.0, 1000, 3), pool=pool(first_token="decode"))
    ((first, last, tokens),) = rows(flight, "first_token", "last_token", "output_tokens")
    step = COST["base"] + COST["per_sequence"]
    context = COST["per_context_token"]
    assert first == pytest.approx(ARRIVES + prefill_seconds(1000) + 2 * HOP + 1.0 + step + context * 1000 + BACK)
    assert last - first == pytest.approx(2 * step + context * (1001 + 1002))
    assert tokens == 3


def test_both_dispatches_are_told_and_the_row_names_who_decodes() -> None:
    flight = fly((0.0, 10, 5), pool=pool(replicas=2, prefill_replicas=2))
    record = flight.record()
    assert [(attempt, name) for _, _, attempt, name, _, _ in record.decisions] == [(1, "vllm-prefill-0"), (1, "vllm-0")]
    assert record.requests["endpoint"] == ["vllm-0"]


def test_prompts_go_where_their_prefix_is_and_the_record_says_how_much_was_cached() -> None:
    flight = fly(
        *[(float(k), 160, 5) for k in range(4)],
        pool=pool(prefill_replicas=2),
        router={"policy": "prefix_aware"},
        same={"prompt": (PromptSegment(1, 160),)},
    )
    assert rows(flight, "cached_tokens") == [(0,), (144,), (144,), (144,)]
    assert {name for _, _, _, name, _, _ in flight.record().decisions} == {"vllm-prefill-0", "vllm-0"}


def test_both_kinds_of_replicas_are_counted_and_paid() -> None:
    block = {
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "gpu": "h100-sxm",
        "replicas": 2,
        "disaggregated": {"prefill_replicas": 3, "prefill": {"gpu": "l40s"}},
    }
    flight = fly(WorkloadRequest(0, 0.0, 1000, 20, block["model"]), pool=block)
    record = flight.record()
    assert record.facts["cost_per_hour"] == pytest.approx(
        2 * price_per_hour_usd("h100-sxm") + 3 * price_per_hour_usd("l40s")
    )
    assert set(record.facts["engine"]) == {"vllm", "vllm-prefill"}
    assert record.facts["engine"]["vllm"]["prefilled_tokens"] == 0
    assert record.facts["engine"]["vllm-prefill"]["prefilled_tokens"] == 1000
    assert {name for _, name, measure, _ in record.samples if measure == "kv_usage"} == {
        "replica/vllm-0",
        "replica/vllm-1",
        *(f"replica/vllm-prefill-{ordinal}" for ordinal in range(3)),
    }
    assert any("the KV of 1 prompts, 131 MB each" in note for note in record.facts["notes"])


# What goes wrong


def crash(at: float, target: str, kind: str = "replica_crash") -> dict[str, Any]:
    return {"at": at, "kind": kind, "target": target, "lasts": 100.0}


def test_a_prompt_lost_with_its_replica_is_computed_on_another() -> None:
    flight = fly((0.0, 1000, 5), pool=pool(prefill_replicas=2), faults=(crash(0.05, "vllm-prefill-0"),))
    ((status, attempts, first),) = rows(flight, "status", "attempts", "first_token")
    assert (status, attempts) == ("ok", 2)
    assert first > 0.05 + prefill_seconds(1000)


@pytest.mark.parametrize("kind", ["replica_crash", "node_loss"])
def test_kv_lost_while_it_moves_fails_the_request_after_its_first_token(kind: str) -> None:
    target = "vllm-prefill-0" if kind == "replica_crash" else "node-1"
    flight = fly((0.0, 1000, 5), pool=pool(prefill_replicas=2), faults=(crash(0.5, target, kind),))
    ((status, reason, first, tokens, ended),) = rows(
        flight, "status", "reason", "first_token", "output_tokens", "ended"
    )
    assert (status, reason, tokens) == ("failed", "the KV of its prompt was lost with vllm-prefill-0", 1)
    assert not isnan(first)
    assert ended == pytest.approx(0.5 + (1.0 if kind == "node_loss" else 0.0) + 3 * HOP)


def test_a_decode_replica_that_crashes_fails_what_it_decodes_and_what_it_fetches() -> None:
    flight = fly((0.0, 100, 500), (1.0, 1000, 5), pool=pool(replicas=1), faults=(crash(1.5, "vllm-0"),))
    assert rows(flight, "status") == [("failed",), ("failed",)]
    assert rows(flight, "output_tokens")[1] == (1,)
    assert rows(flight, "output_tokens")[0][0] > 50


def test_with_no_decode_replica_left_a_computed_prompt_fails() -> None:
    flight = fly((5.0, 100, 5), pool=pool(), faults=(crash(1.0, "vllm-0"),))
    assert rows(flight, "status", "reason", "output_tokens") == [("failed", "no endpoint serves this model", 1)]
    flight = fly((5.0, 100, 5), pool=pool(first_token="decode"), faults=(crash(1.0, "vllm-0"),))
    assert rows(flight, "status", "http_status", "output_tokens") == [("failed", 503, 0)]


@pytest.mark.parametrize("patience", [0.05, 0.3, 0.6])
def test_a_client_that_leaves_frees_both_sides(patience: float) -> None:
    """While its prompt is computed, waits for the link, moves."""
    flight = fly(
        (0.0, 400, 5),
        (0.01, 500, 5),
        pool=pool(first_token="decode"),
        same={"deadline_seconds": patience},
    )
    assert ("timed_out",) in rows(flight, "status")
    flight.clock.run(until=flight.clock.timeout(5.0))
    for replica in flight.fleet.all_replicas:
        assert (replica.engine.kv_usage, replica.engine.num_running, replica.num_in_flight) == (0, 0, 0), replica


def test_what_nobody_could_decode_is_refused_before_it_is_computed() -> None:
    flight = fly((0.0, 100, 5000), pool={**pool(), "max_model_len": 2048})
    ((status, reason),) = rows(flight, "status", "reason")
    assert status == "refused"
    assert "exceed max_model_len 2048" in reason
    assert flight.record().facts["engine"]["vllm-prefill"]["prefilled_tokens"] == 0


def test_decode_replicas_come_and_go_by_their_autoscaler() -> None:
    block = pool() | {"autoscale": {"max_replicas": 3, "target": 1.0, "interval": 1.0}, "cold_start": 1.0}
    flight = fly(*[(0.1 * k, 50, 400) for k in range(40)], pool=block)
    assert {status for (status,) in rows(flight, "status")} == {"ok"}
    assert {name for (name,) in rows(flight, "endpoint")} == {"vllm-0", "vllm-1", "vllm-2"}
