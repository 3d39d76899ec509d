"""Plans of small clusters against brute force, resumed after a kill, and told in words."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from sim.capacity.crew import Crew
from sim.capacity.planning import FRESH_SEEDS, SEARCH_SEEDS, plan
from sim.capacity.probing import Flyer, Prober, build, reshuffled
from sim.capacity.search import Candidate, Finding, Search
from sim.capacity.space import space_of
from sim.experiment.errors import InputError
from sim.experiment.scenario import LoadedScenario, parse

SCENARIO = """
windtunnel: 1
name: small
seed: {seed}
workload:
  arrivals: {{process: gamma, rate: {rate}/s, cv: {cv}}}
  duration: 90s
  lengths: {{input: {{kind: uniform, min: 50, max: 400}}, output: {{kind: uniform, min: 5, max: 60}}}}
  classes: [{{name: chat, slo: {{ttft: {ttft}ms, attainment: {attainment}}}}}]
cluster:
  pools:
    - {{model: tiny, replicas: 1, step_cost: {{base: 12ms, per_prefill_token: 60us}}, max_model_len: 1000}}
plan: {{vary: {{replicas: 1..8, max_num_seqs: [2, 4], tensor_parallel: [1, 2]}}, minimise: gpus}}
"""


def small(number: int) -> LoadedScenario:
    stream = random.Random(number)
    return parse(
        SCENARIO.format(
            seed=number,
            rate=stream.choice([2, 4, 7]),
            cv=stream.choice([1.0, 2.5]),
            ttft=stream.choice([150, 300, 900]),
            attainment=stream.choice([0.8, 0.9, 0.97]),
        )
    )


def cheapest_by_brute_force(loaded: LoadedScenario) -> float | None:
    workload = build(loaded)
    seed = loaded.scenario.seed
    search = Search(
        Prober(Crew(Flyer(loaded, workload))), [seed + s for s in SEARCH_SEEDS], [seed + s for s in FRESH_SEEDS]
    )
    prices = []
    for option in space_of(loaded, workload).options:
        for replicas in range(1, option.max_replicas + 1):
            evidence = search.judge(Candidate(option, replicas))
            verified = search._verified(evidence) if evidence.finding is Finding.MEETS else None
            if verified is evidence or (verified and verified.candidate.replicas == replicas):
                prices.append(replicas * option.price_per_replica)
                break
    return min(prices, default=None)


@pytest.mark.parametrize("number", range(int(os.environ.get("PLAN_EXAMPLES", "6"))))
def test_a_plan_finds_the_cheapest_that_brute_force_finds(number: int) -> None:
    loaded = small(number)
    answer = plan(loaded)

    assert (answer.best.candidate.price if answer.best else None) == cheapest_by_brute_force(loaded)


def test_a_search_that_was_killed_goes_on_to_the_same_answer(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill_after_three(candidate: object, probe: object, flights: int) -> None:
        if flights == 3:
            raise Killed

    loaded, journal = small(3), tmp_path / "plan.jsonl"
    with pytest.raises(Killed):
        plan(loaded, journal_path=journal, told=kill_after_three)
    journal.write_text(journal.read_text() + '{"of": "cut sho')
    resumed, straight = plan(loaded, journal_path=journal), plan(loaded)

    assert resumed.sentence == straight.sentence
    assert resumed.num_flights == straight.num_flights - 3


def test_a_spare_replica_costs_one_replica() -> None:
    loaded = small(4)
    without, spare = plan(loaded), plan(loaded, lost=1)

    assert without.best is not None
    assert spare.best is not None
    assert spare.best.candidate.price >= without.best.candidate.price + 1


def test_reshuffling_keeps_the_times_and_the_lengths_of_each_minute() -> None:
    workload = build(small(0))
    other = reshuffled(workload, 5)

    assert [r.scheduled for r in other.requests] == [r.scheduled for r in workload.requests]
    assert sorted(r.input_tokens for r in other.requests) == sorted(r.input_tokens for r in workload.requests)
    assert other.content_hash != workload.content_hash


@pytest.mark.parametrize(
    ("vary", "told"),
    [
        ("{replicas: 0..3}", "expected a range such as 1..16"),
        ("{gpus: [l40s]}", "'gpus' is nothing that can be varied"),
        ("{max_num_seqs: []}", "expected a list of values"),
        ("{max_num_seqs: [0]}", "max_num_seqs: 0"),
    ],
)
def test_a_space_that_is_none_is_told(vary: str, told: str) -> None:
    text = SCENARIO.format(seed=0, rate=2, cv=1.0, ttft=300, attainment=0.9)
    loaded = parse(text.rpartition("plan:")[0] + f"plan: {{vary: {vary}, minimise: gpus}}\n")

    with pytest.raises(InputError, match=told):
        plan(loaded)


DISAGGREGATED = SCENARIO.replace(
    "max_model_len: 1000}}",
    "max_model_len: 1000, disaggregated: {{prefill_replicas: 1, kv_bytes_per_token: 1000}}}}",
).replace("max_num_seqs: [2, 4], tensor_parallel: [1, 2]", "disaggregated.prefill_replicas: [1, 2]")


def test_a_plan_pays_for_the_replicas_that_compute_prompts_and_varies_them() -> None:
    loaded = parse(DISAGGREGATED.format(seed=1, rate=7, cv=1.0, ttft=300, attainment=0.9))
    answer = plan(loaded)

    assert {option.price_beside for option in answer.options} == {1.0, 2.0}
    for row in answer.rows():
        assert row["price"] == row["gpus"] == row["replicas"] + int(row["option"].split()[0]), row
    assert answer.best is not None
    assert "for prefill meet" in answer.sentence


def test_prompts_that_others_compute_are_no_work_of_a_decode_replica() -> None:
    from sim.capacity.space import perfect_replicas

    loaded = parse(DISAGGREGATED.format(seed=1, rate=7, cv=1.0, ttft=300, attainment=0.9))
    pool, workload = loaded.scenario.cluster.pools[0], build(loaded)
    whole = pool.model_copy(update={"disaggregated": None})
    assert perfect_replicas(pool, workload) <= perfect_replicas(whole, workload)


def test_a_pool_with_parts_of_a_cold_start_can_be_varied() -> None:
    text = SCENARIO.replace("max_model_len: 1000}}", "max_model_len: 1000, startup: {{weights_gb: 1.0}}}}")
    loaded = parse(text.format(seed=1, rate=2, cv=1.0, ttft=300, attainment=0.9))
    assert len(space_of(loaded, build(loaded)).options) == 4
