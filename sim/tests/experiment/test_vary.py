"""What `plan.vary` takes: any setting of a pool or of the router, and what it says to anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.experiment.scenario import LoadedScenario, ScenarioError, parse
from sim.experiment.schema import Pool, Router
from sim.experiment.vary import NOT_VARIED, variation_of, with_settings

TEXT = """\
windtunnel: 1
name: varied
workload:
  arrivals: {process: poisson, rate: 1/s}
  duration: 60s
  lengths: {input: 100, output: 20}
  classes:
    - {name: chat, slo: {ttft: 1s}}
    - {name: code, model: Llama-3.1-70B-Instruct, slo: {ttft: 1s}}
cluster:
  pools:
    - {model: Llama-3.1-8B-Instruct, gpu: l40s, replicas: 1, max_model_len: 4096}
    - {name: large, model: Llama-3.1-70B-Instruct, gpu: h100-sxm, tensor_parallel: 4, replicas: 1}
plan:
  vary:
"""


def varied(*lines: str) -> LoadedScenario:
    return parse(TEXT + "".join(f"    {line}\n" for line in lines), name="my.yaml")


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("max_num_seqs: [64, 128]", lambda s: s.cluster.pools[0].max_num_seqs == 128),
        ("max_num_batched_tokens: [512, 8192]", lambda s: s.cluster.pools[0].max_num_batched_tokens == 8192),
        ("weights: [bf16, fp8]", lambda s: s.cluster.pools[0].weights == "fp8"),
        ("kv_cache: [fp8]", lambda s: s.cluster.pools[0].kv_cache == "fp8"),
        ("block_size: [16, 32]", lambda s: s.cluster.pools[0].block_size == 32),
        ("num_gpu_blocks: [9000]", lambda s: s.cluster.pools[0].num_gpu_blocks == 9000),
        ("gpu_memory_utilization: [0.8, 0.95]", lambda s: s.cluster.pools[0].gpu_memory_utilization == 0.95),
        ("prefix_caching: [true, false]", lambda s: s.cluster.pools[0].prefix_caching is False),
        ("engine: [vllm, trt]", lambda s: s.cluster.pools[0].engine == "trt"),
        ("speculative: [null, {tokens: 3, acceptance: 0.7}]", lambda s: s.cluster.pools[0].speculative.tokens == 3),
        ("tensor_parallel: 1..2", lambda s: s.cluster.pools[0].tensor_parallel == 2),
        ("gpu: [l40s, h100]", lambda s: s.cluster.pools[0].gpu == "h100"),
        ("policy: [round_robin, prefix_aware]", lambda s: s.cluster.router.policy.name == "prefix_aware"),
        ("queue.max_in_flight_per_endpoint: [8, 16]",
         lambda s: s.cluster.router.queue.max_in_flight_per_endpoint == 16),
        ("queue: [{max_requests: 5, max_wait: 2s}]", lambda s: s.cluster.router.queue.max_wait == 2.0),
        ("cluster.router.policy: [round_robin]", lambda s: s.cluster.router.policy.name == "round_robin"),
        ("router.scrape_interval: [500ms]", lambda s: s.cluster.router.scrape_interval == 0.5),
        ("cluster.pools.large.max_num_seqs: [32]", lambda s: s.cluster.pools[1].max_num_seqs == 32),
        ("pools.1.gpu: [h200]", lambda s: s.cluster.pools[1].gpu == "h200"),
    ],
)  # fmt: skip
def test_every_setting_of_a_pool_and_of_the_router_can_be_varied(line: str, read: object) -> None:
    loaded = varied(line)
    scenario = loaded.scenario
    assert scenario.plan is not None
    found = variation_of(scenario, scenario.plan.vary, loaded.error, loaded.base_dir)
    axis = [*found.router, *found.pools[-1].axes][0]

    assert read(with_settings(scenario, found.pools[-1].place, ((axis.key, axis.values[-1]),)))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("gpus: [l40s]", "my.yaml:16: plan.vary.gpus: 'gpus' is nothing that can be varied (did you mean 'gpu'?)"),
        ("model: [tiny]", "'model' is nothing that can be varied"),
        ("replicas: 0..3", "my.yaml:16: plan.vary.replicas: '0..3': "),
        ("replicas: 8..3", "expected a range such as 1..16"),
        ("replicas: [1, 2]", "expected a range such as 1..16"),
        ("max_num_seqs: []", "expected a list of values"),
        ("max_num_seqs: [64, 0]", "my.yaml:16: plan.vary.max_num_seqs.1: 0: expected greater than 0"),
        ("max_num_seqs: 512..256", "the range is empty; expected 256..512"),
        ("max_num_batched_tokens: 512..8192", "7681 values; expected at most 256, or a list such as [512, 8192]"),
        ("weights: [fp4]", "'fp4': expected one of bf16, fp8"),
        ("gpu: [l40s, h10]", "plan.vary.gpu.1: 'h10': unknown GPU 'h10'; nearest: "),
        ("policy: [round_robbin]", "round_robin"),
        ("policy: [{name: prefix_aware, options: {weigt: 1}}]", "weigt"),
        ("queue.max_request: [5]", "'queue' has no 'max_request' (did you mean 'max_requests'?)"),
        ("speculative.tokns: [5]", "'speculative' has no 'tokns' (did you mean 'tokens'?)"),
        ("speculative: [{tokens: 3, acceptence: 0.5}]", "unknown key 'acceptence'"),
        ("gpu.name: [l40s]", "'gpu' has no parts, so 'name' cannot be varied in it"),
        ("router.scrape_interval: [5]", "expected a duration with its unit, such as 500ms"),
        ("cluster.pools.larg.gpu: [l40s]", "there is no pool 'larg' (did you mean 'large'?)"),
        ("cluster.pools.7.gpu: [l40s]", "there is no pool '7'"),
        ("max_num_seqs: 1..20\n    block_size: 1..20", "400 combinations; expected at most 256"),
    ],
)
def test_what_cannot_be_varied_is_told_with_its_place(line: str, told: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        varied(line)

    assert str(refused.value).startswith("my.yaml:1")
    assert told in str(refused.value)


@given(key=st.text(st.sampled_from("abgpu._policy0"), min_size=1, max_size=12))
def test_an_unknown_key_is_refused_and_never_ignored(key: str) -> None:
    known = {*Router.model_fields, *Pool.model_fields} - NOT_VARIED
    if key.split(".")[0] in known or key.startswith(("pools.", "router.")):
        return
    with pytest.raises(ScenarioError, match=r"nothing that can be varied|expected"):
        varied(f"'{key}': [1]")


def test_a_profile_measured_on_one_machine_says_nothing_of_another() -> None:
    loaded = varied("tensor_parallel: [2]")
    cluster = loaded.scenario.cluster
    measured = cluster.pools[0].model_copy(update={"profile": "node.yaml"})
    scenario = loaded.scenario.model_copy(
        update={"cluster": cluster.model_copy(update={"pools": (measured, cluster.pools[1])})}
    )

    assert with_settings(scenario, 0, (("tensor_parallel", 2),)).cluster.pools[0].profile is None
    assert with_settings(scenario, 0, (("max_num_seqs", 64),)).cluster.pools[0].profile == "node.yaml"
