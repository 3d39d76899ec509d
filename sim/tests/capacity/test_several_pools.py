"""Plans of several pools: each is searched alone, all are flown together, and together they are the cheapest."""

from __future__ import annotations

import itertools

import pytest

from sim.capacity.answer import Answer
from sim.capacity.decide import meets
from sim.capacity.page import render_plan
from sim.capacity.planning import FRESH_SEEDS, plan
from sim.capacity.probing import Flyer
from sim.capacity.search import Candidate
from sim.experiment.generate import build_workload
from sim.experiment.scenario import LoadedScenario, parse

TEXT = """
windtunnel: 1
name: two
seed: {seed}
workload:
  arrivals: {{process: poisson, rate: 10/s}}
  duration: 90s
  lengths: {{input: {{kind: uniform, min: 50, max: 400}}, output: {{kind: uniform, min: 5, max: 60}}}}
  classes:
    - {{name: chat, slo: {{ttft: 300ms, attainment: 0.9}}}}
    - {{name: code, model: other, share: 2, slo: {{ttft: 500ms, attainment: 0.8}}}}
cluster:
  pools:
    - {{model: tiny, replicas: 1, step_cost: {{base: 12ms, per_prefill_token: 60us}}, max_model_len: 1000}}
    - {{name: code, model: other, replicas: {others}, step_cost: {{base: 15ms}}, max_num_seqs: 2, max_model_len: 1000}}
plan: {{vary: {vary}, minimise: gpus}}
"""
BOTH = "{replicas: 1..8, max_num_seqs: [2, 4], pools.code.replicas: 1..8, policy: [round_robin, least_in_flight]}"


def two(seed: int, vary: str, others: int = 8) -> LoadedScenario:
    return parse(TEXT.format(seed=seed, vary=vary, others=others))


def replicas_of(answer: Answer) -> list[int]:
    assert answer.choice is not None
    return [candidate.replicas for candidate in answer.choice.candidates]


@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_found_for_two_pools_holds_together_and_nothing_cheaper_does(seed: int) -> None:
    loaded = two(seed, BOTH)
    answer = plan(loaded)
    assert answer.choice is not None
    flyer = Flyer(loaded, build_workload(loaded))

    def holds(candidates: tuple[Candidate, ...]) -> bool:
        flights = [flyer.together(candidates, seed + fresh) for fresh in FRESH_SEEDS]
        return all(meets(counts) for counts in zip(*(flight.classes for flight in flights), strict=True))

    chosen = answer.choice.candidates
    assert holds(chosen)
    for place, count in itertools.product(range(2), range(1, 3)):
        fewer = [*chosen]
        if chosen[place].replicas > count:
            fewer[place] = Candidate(chosen[place].option, chosen[place].replicas - count)
            assert not holds(tuple(fewer))


def test_both_pools_stand_in_the_sentence_the_table_and_the_page() -> None:
    answer = plan(two(1, BOTH), with_headroom=True)

    assert " of tiny on " in answer.sentence
    assert " of other " in answer.sentence
    assert {row["pool"] for row in answer.rows()} == {"vllm", "code"}
    assert sum(row["is_best"] for row in answer.rows()) == 2
    assert answer.sentence in render_plan(answer)


def test_a_pool_that_is_not_varied_stands_as_it_is() -> None:
    alone = plan(two(1, "{replicas: 1..8}"))
    both = plan(two(1, "{replicas: 1..8, pools.code.replicas: 1..8}"))

    assert replicas_of(alone) == replicas_of(both)[:1]


def test_a_pool_that_is_not_varied_and_falls_short_leaves_no_answer() -> None:
    assert plan(two(1, "{replicas: 1..8}", others=1)).choice is None
