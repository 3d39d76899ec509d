"""Plans of small clusters against brute force, resumed after a kill, and told in words."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from sim.capacity.crew import Crew
from sim.capacity.perfect import perfect_replicas
from sim.capacity.planning import FRESH_SEEDS, SEARCH_SEEDS, plan
from sim.capacity.price import catalogue_prices
from sim.capacity.probing import Flyer, Prober
from sim.capacity.search import Candidate, Finding, Search
from sim.capacity.space import Spare, space_of
from sim.capacity.workloads import reshuffled
from sim.cluster.machines import machine_for
from sim.experiment.generate import build_workload
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
    workload = build_workload(loaded)
    seed = loaded.scenario.seed
    flyer = Flyer(loaded, workload)
    search = Search(Prober(Crew(flyer), flyer), [seed + s for s in SEARCH_SEEDS], [seed + s for s in FRESH_SEEDS])
    prices = []
    for option in space_of(loaded, workload, catalogue_prices()).ways[0][0].options:
        for replicas in range(1, option.max_replicas + 1):
            evidence = search.judge(Candidate(option, replicas))
            verified = search._verified(evidence) if evidence.finding is Finding.MEETS else None
            if verified is evidence or (verified and verified.candidate.replicas == replicas):
                assert replicas >= option.perfect, "a real system needed less than a perfect one"
                prices.append(replicas * option.price_per_replica)
                break
    return min(prices, default=None)


@pytest.mark.parametrize("number", range(int(os.environ.get("PLAN_EXAMPLES", "6"))))
def test_a_plan_finds_the_cheapest_that_brute_force_finds(number: int) -> None:
    loaded = small(number)
    answer = plan(loaded)

    assert (answer.choice.price if answer.choice else None) == cheapest_by_brute_force(loaded)


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


def test_flights_that_were_kept_serve_another_space(tmp_path: Path) -> None:
    journal, text = tmp_path / "plan.jsonl", SCENARIO.format(seed=3, rate=4, cv=1.0, ttft=300, attainment=0.9)
    narrow, wide = (parse(text, overrides=[f"plan.vary={{replicas: 1..{most}}}"]) for most in (4, 8))
    plan(narrow, journal_path=journal)

    assert plan(wide, journal_path=journal).num_flights < plan(wide).num_flights


def test_a_spare_replica_costs_one_replica() -> None:
    loaded = small(4)
    without, spare = plan(loaded), plan(loaded, spare=Spare(1))

    assert without.choice is not None
    assert spare.choice is not None
    assert spare.choice.price >= without.choice.price + 1


def test_reshuffling_keeps_the_times_and_the_lengths_of_each_minute() -> None:
    workload = build_workload(small(0))
    other = reshuffled(workload, 5)

    assert [r.scheduled for r in other.requests] == [r.scheduled for r in workload.requests]
    assert sorted(r.input_tokens for r in other.requests) == sorted(r.input_tokens for r in workload.requests)
    assert other.content_hash != workload.content_hash


def test_a_spare_node_costs_as_many_replicas_as_it_holds() -> None:
    loaded = parse(SCENARIO.format(seed=4, rate=2, cv=1.0, ttft=900, attainment=0.8), overrides=[
        "cluster.pools.0.replicas_per_node=2", "plan.vary={replicas: 1..8, max_num_seqs: [4]}",
    ])  # fmt: skip
    without, spare = plan(loaded), plan(loaded, spare=Spare(nodes=1))

    assert without.choice is not None
    assert spare.choice is not None
    assert spare.choice.candidates[0].replicas == without.choice.candidates[0].replicas + 2
    assert "with 1 node to spare" in spare.sentence


def test_a_fault_beyond_a_small_clusters_last_replica_hits_that() -> None:
    text = SCENARIO.format(seed=4, rate=2, cv=1.0, ttft=900, attainment=0.8).replace("replicas: 1,", "replicas: 8,")
    crash = "faults: [{at: 20s, kind: replica_crash, target: vllm-7, lasts: 40s}]\n"
    calm, hit = plan(parse(text)), plan(parse(text + crash))

    assert calm.choice is not None
    assert hit.choice is not None
    assert hit.choice.price > calm.choice.price


DISAGGREGATED = SCENARIO.replace(
    "max_model_len: 1000}}",
    "max_model_len: 1000, disaggregated: {{prefill_replicas: 1, kv_bytes_per_token: 1000}}}}",
).replace("max_num_seqs: [2, 4], tensor_parallel: [1, 2]", "disaggregated.prefill_replicas: [1, 2]")


def test_a_plan_pays_for_the_replicas_that_compute_prompts_and_varies_them() -> None:
    loaded = parse(DISAGGREGATED.format(seed=1, rate=7, cv=1.0, ttft=300, attainment=0.9))
    answer = plan(loaded)

    assert answer.choice is not None
    candidate = answer.choice.candidates[0]
    beside = dict(candidate.option.settings)["disaggregated.prefill_replicas"]
    assert candidate.price == candidate.gpus == candidate.replicas + beside
    assert f"prefill {beside} meet" in answer.sentence


def test_prompts_that_others_compute_are_no_work_of_a_decode_replica() -> None:
    text = DISAGGREGATED.format(seed=1, rate=7, cv=1.0, ttft=300, attainment=0.9)
    loaded = parse(text)
    pool, workload = loaded.scenario.cluster.pools[0], build_workload(loaded)
    whole = pool.model_copy(update={"disaggregated": None})
    machine = machine_for(pool)
    assert perfect_replicas(pool, machine, workload) <= perfect_replicas(whole, machine, workload)
