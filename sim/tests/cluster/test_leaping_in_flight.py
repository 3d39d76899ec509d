"""I9 for whole clusters: a flight whose engines leap and one whose engines step leave the same record.

Random clusters of several pools, engines and kinds of step cost, with faults, retries of the router's and of clients,
autoscaling, rate limits and short queues. FLIGHT_EXAMPLES in the environment sets how many; the flights of one run must
have met every kind of thing, or the run proves less than it says.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.cluster import fly
from sim.experiment.record import RunRecord
from sim.experiment.scenario import LoadedScenario
from sim.experiment.schema import Scenario
from sim.experiment.workload import PromptSegment, Workload, WorkloadRequest

EXAMPLES = int(os.environ.get("FLIGHT_EXAMPLES", "200"))
RARE = 0.01
"""The share of the flights that must have met a kind, whatever chance does."""

KINDS = ("replica_crash", "node_loss", "slow_replica", "stall", "partition", "error_burst")

COSTS: dict[str, dict[str, Any]] = {
    "outright": {"step_cost": {"base": 0.01, "per_prefill_token": 1e-5, "per_context_token": 1e-6}},
    "of a GPU": {"gpu": "l40s", "max_model_len": 900},
    "speculative": {
        "step_cost": {"base": 0.02, "per_sequence": 1e-4, "per_context_token": 1e-6},
        "speculative": {"tokens": 3, "acceptance": 0.7},
    },
}


def pool_of(chance: Random, ordinal: int) -> dict[str, Any]:
    pool = {
        "name": f"pool{ordinal}",
        "model": ("Llama-3.1-8B-Instruct", "Qwen2.5-7B-Instruct")[ordinal],
        "engine": chance.choice(["vllm", "vllm", "trt"]),
        "replicas": chance.randint(1, 3),
        "replicas_per_node": chance.randint(1, 2),
        "num_gpu_blocks": chance.choice([45, 60, 400]),
        "max_num_seqs": chance.choice([2, 8]),
        "max_num_batched_tokens": chance.choice([64, 512]),
        "cold_start": chance.choice([0.5, 3.0]),
        **COSTS[chance.choice([*COSTS])],
    }
    if chance.random() < 0.5:
        pool["autoscale"] = {"max_replicas": 5, "target": 2.0, "interval": 1.5, "stabilisation": 3.0}
    return pool


def scenario_of(chance: Random) -> LoadedScenario:
    pools = [pool_of(chance, ordinal) for ordinal in range(chance.randint(1, 2))]
    targets = [name for pool in pools for name in (pool["name"], f"{pool['name']}-0")] + ["node-0"]
    router = {
        "policy": {"name": chance.choice(["least_in_flight", "power_of_two", "prefix_aware", "round_robin"])},
        "queue": {
            "max_requests": chance.choice([0, 5, 1000]),
            "max_in_flight_per_endpoint": chance.choice([None, 1, 4]),
        },
        "retry": {"max_attempts": chance.randint(1, 3), "min_per_second": 10.0},
    }
    retry = {"max_sends": 3, **chance.choice([{}, {"backoff": 0.7}, {"backoff": 0.7, "jitter": 1.0}])}
    faults = [
        {
            "at": chance.randint(0, 80) / 10,
            "kind": chance.choice(KINDS),
            "target": chance.choice(targets),
            "lasts": chance.randint(1, 40) / 10,
            "factor": 3.0,
            "share": chance.choice([0.3, 1.0]),
        }
        for _ in range(chance.randint(0, 6))
    ]
    fields = {
        "windtunnel": 1,
        "name": "random",
        "seed": chance.randrange(100),
        "workload": {"classes": [{"name": "default", "retry": chance.choice([None, retry])}]},
        "cluster": {
            "pools": pools,
            "router": router,
            "gateway": {"rate_limits": chance.choice([(), (), ({"requests": 4.0, "burst": 3},)])},
        },
        "faults": faults,
        "measure": {"sample_interval": 0.5},
    }
    return LoadedScenario(Scenario.model_validate(fields), "", Path("x.yaml"), Path())


def workload_of(chance: Random, loaded: LoadedScenario) -> Workload:
    """Times on a coarse grid, so that several things often happen at one instant."""
    models = [pool.model for pool in loaded.scenario.cluster.pools]
    seconds = chance.choice([2, 10])
    times = sorted(chance.randrange(seconds * 10) / 10 for _ in range(chance.randint(5, 60)))
    requests = []
    for index, at in enumerate(times):
        shared, own = chance.randrange(4), chance.randrange(1, 300)
        prompt = (PromptSegment(shared, 200), PromptSegment(100 + index, own)) if shared else ()
        requests.append(
            WorkloadRequest(
                index,
                at,
                200 * bool(shared) + own,
                chance.randrange(1, 200),
                chance.choice(models),
                priority=chance.randrange(2),
                prompt=prompt,
                deadline_seconds=chance.choice([None, 0.3, 3.0]),
            )
        )
    return Workload(tuple(requests), float(seconds), "hash")


def met_in(loaded: LoadedScenario, record: RunRecord) -> Iterator[str]:
    """Name what a flight met."""
    scenario = loaded.scenario
    yield from (event["kind"] for event in record.events)
    for pool in scenario.cluster.pools:
        yield f"engine {pool.engine}"
        yield "speculative" if pool.speculative else "of a GPU" if pool.gpu else "outright"
    if len(scenario.cluster.pools) > 1:
        yield "several pools"
    for counters in record.facts["engine"].values():
        yield from (name for name in ("preemptions", "cached_tokens", "aborted", "lost") if counters[name])
    yield from record.requests["status"]
    if record.facts.get("client_retries", {}).get("resends"):
        yield "resends"
    if max(record.requests["attempts"]) > 1:
        yield "retries"


EVERY_KIND = {
    *KINDS,
    *("scale_up", "replica_ready", "engine vllm", "engine trt", *COSTS, "several pools"),
    *("preemptions", "cached_tokens", "aborted", "lost", "resends", "retries"),
    *("ok", "refused", "timed_out", "failed"),
}


@pytest.mark.timeout(120 + EXAMPLES)
def test_a_flight_that_leaps_and_one_that_steps_leave_the_same_record() -> None:
    met: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(seed=st.integers(0, 2**40))
    def flown_twice(seed: int) -> None:
        chance = Random(seed)
        loaded = scenario_of(chance)
        workload = workload_of(chance, loaded)
        leaping, stepping = (fly(loaded, workload, leaping=leaping) for leaping in (True, False))
        for name in ("requests", "decisions", "events", "samples", "gaps", "facts"):
            assert repr(getattr(leaping, name)) == repr(getattr(stepping, name)), name
        met.update(set(met_in(loaded, leaping)))

    flown_twice()
    print(dict(sorted(met.items())))
    seldom = {kind: met[kind] for kind in EVERY_KIND if met[kind] < RARE * EXAMPLES}
    assert not seldom, f"of {EXAMPLES} flights too few met these: {seldom}"
