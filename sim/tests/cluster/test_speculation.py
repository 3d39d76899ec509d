"""Speculative decoding: tokens come faster by what a check brings, prompts cost what they cost."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.engine import StepCost
from sim.cluster.machines import machine_for
from sim.cluster.speculation import tokens_per_step, with_speculation
from sim.experiment.schema import Pool

costs = st.builds(
    StepCost,
    overhead=st.floats(0.001, 0.01),
    # reading the weights, then computing: a floor with a slope after it, as every roofline has
    token_seconds=st.tuples(st.floats(0.001, 0.02), st.floats(1e-6, 1e-4)).map(
        lambda shape: ((1.0, shape[0]), (256.0, shape[0]), (8192.0, shape[0] + 7936 * shape[1]))
    ),
    per_sequence=st.floats(0, 1e-5),
    per_context_token=st.floats(0, 1e-7),
)
tokens = st.integers(1, 8)
shares = st.floats(0, 1)


@given(tokens, shares)
def test_a_check_brings_as_many_tokens_as_chance_says(count: int, acceptance: float) -> None:
    chance = random.Random(1)
    brought = []
    for _ in range(4000):
        kept = 0
        while kept < count and chance.random() < acceptance:
            kept += 1
        brought.append(kept + 1)

    assert tokens_per_step(count, acceptance) == pytest.approx(np.mean(brought), abs=5 * np.std(brought) / 63 + 0.01)


@given(costs, tokens, shares, st.sampled_from([1, 2, 3, 8, 15, 66]), st.integers(0, 200_000))
def test_decoding_costs_a_checking_step_shared_by_its_tokens(
    cost: StepCost, count: int, acceptance: float, batch: int, context: int
) -> None:
    checking = cost.seconds(batch, batch * (count + 1), context, 0, 0.0) + 0.001 * count
    fixed, slope = with_speculation(cost, count, acceptance, 0.001).decode_affine(batch)

    # the rounded corner of the roofline may cost a little more, never less
    shared = checking / tokens_per_step(count, acceptance)
    assert fixed + slope * context >= shared - 1e-12
    if batch * (count + 1) <= 256 or acceptance == 1.0:
        assert fixed + slope * context == pytest.approx(shared, rel=1e-6)


@given(costs, tokens, shares)
def test_a_prompt_costs_what_it_cost(cost: StepCost, count: int, acceptance: float) -> None:
    plain = cost.seconds(1, 2048, 0, 2048, 2048 * 1024.0)
    changed = with_speculation(cost, count, acceptance).seconds(1, 2048, 0, 2048, 2048 * 1024.0)

    assert changed == pytest.approx(plain, rel=1e-2)  # but for sampling its one sequence


@given(costs, tokens)
def test_proposals_that_nobody_accepts_only_cost(cost: StepCost, count: int) -> None:
    useless = with_speculation(cost, count, 0.0, 0.001)

    assert useless.decode_affine(8)[0] >= cost.decode_affine(8)[0]


def test_a_pool_with_speculation_answers_faster(scenario, workload, flown) -> None:
    def seconds_per_token(**pool: object) -> float:
        record = flown(scenario(pool=pool), workload((0.0, 64, 121)))
        assert record.requests["status"] == ["ok"]
        return (record.requests["last_token"][0] - record.requests["first_token"][0]) / 120

    plain = seconds_per_token()
    faster = seconds_per_token(speculative={"tokens": 3, "acceptance": 0.8})

    assert plain / faster == pytest.approx(1 + 0.8 + 0.64 + 0.512, rel=1e-6)


def test_speculation_pays_where_steps_read_weights_and_not_where_they_compute() -> None:
    def gain(batch: int) -> float:
        pool = {"model": "Llama-3.1-8B-Instruct", "gpu": "h100-sxm", "replicas": 1}
        plain = machine_for(Pool.model_validate(pool)).cost
        faster = machine_for(Pool.model_validate(pool | {"speculative": {"tokens": 4, "acceptance": 0.7}})).cost
        return plain.decode_affine(batch)[0] / faster.decode_affine(batch)[0]

    assert gain(1) > 2.0
    assert gain(512) < 1.0
