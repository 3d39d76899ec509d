"""A small scenario whose plan takes a fraction of a second."""

from __future__ import annotations

import pytest

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


@pytest.fixture
def small_scenario() -> str:
    """A text to be formatted with seed, rate, cv, ttft in milliseconds, and attainment."""
    return SCENARIO
