"""Bad input: one message with file, line, key, value, what was expected, and the nearest valid choice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sim.experiment.errors import InputError
from sim.experiment.generate import build_workload
from sim.experiment.scenario import LoadedScenario, ScenarioError, find, load, parse

A_DURATION = "expected a duration with its unit, such as 500ms, 1.5s, 10m or 1h"
A_RATE = "expected a rate, a number per unit of time, such as 12/s, 90/min or 400/h"

IN_THE_FILE = [
    # unknown keys and missing ones
    (
        "duration: 1m",
        "durations: 1m",
        "s.yaml:6: workload.durations: unknown key 'durations' (did you mean 'duration'?)",
    ),
    (
        "cluster:",
        "cluster:\n  replicas: 3",
        "s.yaml:12: cluster.replicas: unknown key 'replicas' (it belongs in cluster.",
    ),
    ("name: test\n", "", "s.yaml:1: name: the key 'name' is missing"),
    (", replicas: 2", "", "s.yaml:14: cluster.pools.0.replicas: the key 'replicas' is missing"),
    ("windtunnel: 1", "windtunnel: 2", "s.yaml:1: windtunnel: 2: expected 1"),
    # units, signs, kinds of values
    ("duration: 1m", "duration: 60", f"s.yaml:6: workload.duration: 60: {A_DURATION} (did you mean 60s?)"),
    ("duration: 1m", "duration: 1.5", f"s.yaml:6: workload.duration: 1.5: {A_DURATION}"),
    ("duration: 1m", "duration: 5/s", f"s.yaml:6: workload.duration: '5/s': {A_DURATION}"),
    ("rate: 5/s", "rate: 5", f"s.yaml:5: workload.arrivals.rate: 5: {A_RATE} (did you mean 5/s?)"),
    ("rate: 5/s", "rate: -5/s", f"s.yaml:5: workload.arrivals.rate: '-5/s': {A_RATE}"),
    ("rate: 5/s", "rate: 0/s", "s.yaml:5: workload.arrivals.rate: '0/s': a poisson process needs `rate`, above zero"),
    ("replicas: 2", "replicas: 0", "s.yaml:14: cluster.pools.0.replicas: 0: expected greater than 0"),
    ("replicas: 2", "replicas: -1", "s.yaml:14: cluster.pools.0.replicas: -1: expected greater than 0"),
    ("replicas: 2", "replicas: true", "s.yaml:14: cluster.pools.0.replicas: true: expected a whole number"),
    ("replicas: 2", "replicas: two", "s.yaml:14: cluster.pools.0.replicas: 'two': expected a whole number"),
    ("seed: 7", "seed: -1", "s.yaml:3: seed: -1: expected greater than or equal to 0"),
    ("input: 100", "input: 100ms", "s.yaml:7: workload.lengths.input: '100ms': expected a number"),
    ("name: chat", "name: my chat", "s.yaml:9: workload.classes.0.name: 'my chat': expected letters, digits, - and _"),
    ("name: chat", "name: all", "s.yaml:9: workload.classes.0.name: 'all': `all` stands for all classes together"),
    ("least_in_flight", "[a]", "s.yaml:12: cluster.router.policy: expected a mapping, such as {key: value}"),
    # arrivals
    ("process: poisson", "process: poison", "(did you mean 'poisson'?)"),
    ("  duration: 1m\n", "", "s.yaml:4: workload: expected a `duration`: these arrivals would never end"),
    ("duration: 1m", "duration: 0s", "s.yaml:6: workload.duration: '0s': the workload is empty; expected more than 0"),
    ("rate: 5/s", "rate: 5/s, cv: 3", "s.yaml:5: workload.arrivals.cv: 3: a poisson process has no `cv`; it has rate"),
    ("  lengths: {input: 100, output: 10}\n", "", "s.yaml:4: workload: expected `lengths`: arrivals say when, not how"),
    ("  arrivals:", "  trace: {file: x, format: azure}\n  arrivals:", "either `trace` or `arrivals`; both are given"),
    ("  arrivals: {process: poisson, rate: 5/s}\n", "", "expected either `trace` or `arrivals`; neither is given"),
    ("rate: 5/s", "rate: 1/d", "s.yaml:4: workload: there is no request in it: 0 rows, dropped: none"),
    # SLOs that nobody can meet
    ("ttft: 1s", "ttft: 0s", "s.yaml:10: workload.classes.0.slo.ttft: '0s': nothing can take no time; expected more"),
    (
        "ttft: 1s",
        "ttft: 1s, e2e: 80ms",
        "s.yaml:10: workload.classes.0.slo.e2e: '80ms': an answer ends after its first",
    ),
    (
        "ttft: 1s",
        "attainment: 1.5",
        "s.yaml:10: workload.classes.0.slo.attainment: 1.5: expected less than or equal to 1",
    ),
    ("ttft: 1s", "attainment: 0", "s.yaml:10: workload.classes.0.slo.attainment: 0: expected greater than 0"),
    # what the cluster is made of
    ("gpu: l40s", "gpu: l40", "s.yaml:14: cluster.pools.0.gpu: 'l40': unknown GPU 'l40'; nearest: l40s"),
    (
        "3.1-8B-",
        "3.1-70B-",
        "s.yaml:14: cluster.pools.0.gpu: 'l40s': meta-llama/Llama-3.1-70B-Instruct (bf16) does not fit",
    ),
    (
        "gpu: l40s",
        "gpu: rtx-4090",
        "cluster.pools.0.gpu: 'rtx-4090': the KV cache holds 43360 tokens and a request may",
    ),
    ("gpu: l40s", "gpu: l40s, max_model_len: 200000", "max_model_len: 200000: expected at most 131072"),
    ("gpu: l40s, ", "", "s.yaml:14: cluster.pools.0: expected either `gpu` or `step_cost`; neither is given"),
    (
        "least_in_flight",
        "least_inflight",
        "s.yaml:12: cluster.router.policy: 'least_inflight': policy 'least_inflight' is",
    ),
    ("least_in_flight", "mine.py:Policy", "s.yaml:12: cluster.router.policy: 'mine.py:Policy'"),
    (
        "name: chat",
        "name: chat\n      model: gpt",
        "s.yaml:10: workload.classes.0.model: 'gpt': no pool serves this model",
    ),
    ("input: 100", "input: 200000", " longer than the 131072 tokens that meta-llama/Llama-3.1-8B-Instruct takes"),
    # how GPUs share a model
    (
        "gpu: l40s",
        "gpu: l40s, pipeline_parallel: 3",
        "pools.0.pipeline_parallel: 3: pipeline_parallel 3 does not divide",
    ),
    (
        "gpu: l40s",
        "gpu: l40s, tensor_parallel: 5",
        "pools.0.tensor_parallel: 5: tensor_parallel 5 does not divide the 32",
    ),
    ("gpu: l40s", "gpu: l40s, expert_parallel: 2", "pools.0.expert_parallel: 2: expert_parallel 2: meta-llama/"),
    (
        "gpu: l40s",
        "step_cost: {base: 10ms}, pipeline_parallel: 2",
        "pools.0.pipeline_parallel: 2: expected 1: the `step_cost` says what a step takes",
    ),
    # disaggregation
    ("replicas: 2", "replicas: 2, disaggregated: {}", "disaggregated.prefill_replicas: the key 'prefill_replicas' is"),
    (
        "replicas: 2",
        "replicas: 2, disaggregated: {prefill_replicas: 1, transfer_gb_per_s: 0}",
        "disaggregated.transfer_gb_per_s: 0: expected greater than 0",
    ),
    (
        "replicas: 2",
        "replicas: 2, disaggregated: {prefill_replicas: 1, prefill: {gpu: l400}}",
        "disaggregated.prefill.gpu: 'l400': unknown GPU 'l400'; nearest: l40s",
    ),
    (
        "replicas: 2",
        "replicas: 2, disaggregated: {prefill_replicas: 1, prefill: {gpu: l40s, step_cost: {base: 1ms}}}",
        "disaggregated.prefill: expected either `gpu` or `step_cost`; both are given",
    ),
    (
        "replicas: 2",
        "replicas: 2, disaggregated: {prefill_replicas: 1, decode_policy: least_inflight}",
        "disaggregated.decode_policy: 'least_inflight': policy 'least_inflight' is not known",
    ),
    (
        "model: meta-llama/Llama-3.1-8B-Instruct, gpu: l40s, replicas: 2",
        "model: mine, step_cost: {base: 10ms}, replicas: 2, disaggregated: {prefill_replicas: 1}",
        "disaggregated.kv_bytes_per_token: expected the bytes that move per token: unknown model 'mine'",
    ),
    (
        "replicas: 2",
        "replicas: 2, worker: {kind: vllm, model_dir: x}, disaggregated: {prefill_replicas: 1}",
        "disaggregated: expected a pool without `worker`",
    ),
    # YAML
    ("seed: 7", "name: again", 's.yaml:3: this is not YAML: found duplicate key "name"'),
    ("duration: 1m", "duration: [1", "this is not YAML: expected"),
]

ADDED = [
    ("expect: [chat.slo_attainmant >= 0.9]", "s.yaml:15: expect.0: 'chat.slo_attainmant >= 0.9': there is no measure"),
    (
        "expect: [chad.slo_attainment >= 0.9]",
        "there is no class 'chad' (did you mean 'chat'?); expected one of all, chat",
    ),
    ("expect: all.goodput > 1", "s.yaml:15: expect: 'all.goodput > 1': expected a list"),
    (
        "faults: [{at: 5s, kind: replica_crash, target: vllm-2, lasts: 5s}]",
        "s.yaml:15: faults.0.target: 'vllm-2': there is no such target of a replica_crash (did you mean 'vllm-1'?); "
        "expected one of vllm-0, vllm-1",
    ),
    (
        "faults: [{at: 2m, kind: replica_crash, target: vllm-1, lasts: 5s}]",
        "s.yaml:15: faults.0.at: '2m': the workload ends after 1m; expected an earlier time",
    ),
    (
        "faults: [{at: 2s, kind: crash, target: vllm-1, lasts: 5s}]",
        "s.yaml:15: faults.0.kind: 'crash': expected one of replica_crash, node_loss, slow_replica, stall, partition, "
        "error_burst (did you mean 'replica_crash'?)",
    ),
    ("faults: [{at: 2s, kind: slow_replica, target: vllm-1, lasts: 5s}]", "faults.0: a slow_replica needs `factor`"),
    (
        "faults: [{at: 2s, kind: stall, target: vllm-1, lasts: 5s, share: 0.5}]",
        "faults.0.share: 0.5: a stall has no `share`",
    ),
    ("faults: [{at: 2s, kind: stall, target: vllm-1, lasts: 0s}]", "faults.0.lasts: '0s': nothing would happen"),
    (
        "faults: [{at: 5s, kind: replica_crash, target: vllm-prefill-0, lasts: 5s}]",
        "faults.0.target: 'vllm-prefill-0': there is no such target of a replica_crash",
    ),
    ("measure: {warm_up: 2m}", "s.yaml:15: measure.warm_up: '2m': the workload ends after 1m; expected a shorter one"),
    ("measure: {percentiles: [50, 100]}", "s.yaml:15: measure.percentiles.1: 100: expected less than 100"),
    ("measures: {}", "s.yaml:15: measures: unknown key 'measures' (did you mean 'measure'?)"),
]


def refusal(make: Callable[[], LoadedScenario]) -> str:
    with pytest.raises(InputError) as refused:
        build_workload(make())
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(("old", "new", "problem"), IN_THE_FILE)
def test_a_scenario_that_cannot_be_flown_is_refused_at_its_line(
    read: Callable[..., LoadedScenario], old: str, new: str, problem: str
) -> None:
    assert problem in refusal(lambda: read((old, new)))


@pytest.mark.parametrize(("block", "problem"), ADDED)
def test_a_block_that_means_nothing_is_refused_at_its_line(
    read: Callable[..., LoadedScenario], block: str, problem: str
) -> None:
    assert problem in refusal(lambda: read(more=block + "\n"))


def test_a_rate_limit_of_an_unknown_tenant_is_refused(read: Callable[..., LoadedScenario]) -> None:
    gateway = "cluster:\n  gateway: {rate_limits: [{tenant: bob, requests: 5/s}]}"

    assert refusal(lambda: read(("cluster:", gateway))) == (
        "s.yaml:12: cluster.gateway.rate_limits.0.tenant: 'bob': there is no such tenant; expected one of default, or *"
    )


ROWS = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:{minute:02}:00.0000000,100,10\n" for minute in range(30)
)


@pytest.mark.parametrize(
    ("about", "problem"),
    [
        (
            "format: azure, window: [2m, 1m]",
            "s.yaml:5: workload.trace.window: the window is empty; expected [start, later",
        ),
        (
            "format: azure, window: [1m, 2h]",
            "s.yaml:5: workload.trace.window: the window ends at 2h, the trace at 29m1s;",
        ),
        ("format: azure, window: [1s, 2s]", "s.yaml:5: workload.trace.window: no request is between 1s and 2s"),
        ("format: azure, window: [1m]", "s.yaml:5: workload.trace.window.1: one more entry is expected"),
        ("format: azure, rate_scale: 0", "s.yaml:5: workload.trace.rate_scale: 0: expected greater than 0"),
        ("format: azure, rate_scale: .inf", "s.yaml:5: workload.trace.rate_scale: inf: expected a finite number"),
        ("format: azure, thin: 1.5", "s.yaml:5: workload.trace.thin: 1.5: expected less than or equal to 1"),
        (
            "format: azzure",
            "s.yaml:5: workload.trace.format: 'azzure': expected one of azure, mooncake, burstgpt, servegen",
        ),
        ("format: burstgpt", "trace.csv:1: the header is 'TIMESTAMP,ContextTokens,GeneratedTokens'; expected columns"),
    ],
)
def test_a_trace_that_cannot_be_flown_is_refused(
    flying: Callable[..., LoadedScenario], about: str, problem: str
) -> None:
    assert problem in refusal(lambda: flying(ROWS, about))


def test_a_missing_trace_is_answered_with_the_nearest_file(
    flying: Callable[..., LoadedScenario], tmp_path: Path
) -> None:
    def without_it() -> LoadedScenario:
        loaded = flying(ROWS)
        (tmp_path / "trace.csv").rename(tmp_path / "trace1.csv")
        return loaded

    message = refusal(without_it)
    assert message.startswith("s.yaml:5: workload.trace.file: 'trace.csv': there is no trace file")
    assert message.endswith("(did you mean 'trace1.csv'?)")


def test_what_lies_outside_a_trace_without_a_window_is_refused_too(flying: Callable[..., LoadedScenario]) -> None:
    fault = "faults: [{at: 40m, kind: stall, target: vllm-1, lasts: 5s}]\n"

    assert "faults.0.at: '40m': the workload ends after 29m1s" in refusal(lambda: flying(ROWS, more=fault))
    assert "measure.warm_up: '1h'" in refusal(lambda: flying(ROWS, more="measure: {warm_up: 1h}\n"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "s.yaml:1: expected a scenario, a mapping that begins with `windtunnel: 1`"),
        ("- 1\n", "s.yaml:1: expected a scenario, a mapping"),
        ("a: b: c\n", "s.yaml:1: this is not YAML: mapping values are not allowed here"),
        ("about: &a [*a]\n", "s.yaml:1: about: expected text"),
        ("a: " + "[" * 5000, "s.yaml: is nested too deeply for a scenario"),
        ("a: !!python/object:os.system x\n", "s.yaml:1: a: unknown key 'a'"),
    ],
)
def test_what_is_no_scenario_at_all_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ScenarioError) as refused:
        parse(text, "s.yaml", tmp_path)

    assert problem in str(refused.value)


def test_a_scenario_file_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path, text: str) -> None:
    (tmp_path / "first_flight.yaml").write_text(text)
    (tmp_path / "latin.yaml").write_bytes(b"about: caf\xe9\n")

    with pytest.raises(ScenarioError, match=r"there is no such scenario file \(did you mean 'first_flight.yaml'\?\)"):
        load(tmp_path / "first_fligt.yaml")
    with pytest.raises(ScenarioError, match="there is no directory"):
        load(tmp_path / "nowhere" / "x.yaml")
    with pytest.raises(ScenarioError, match="cannot be read"):
        load(tmp_path)
    with pytest.raises(ScenarioError, match=r"latin\.yaml: cannot be read: 'utf-8' codec"):
        load(tmp_path / "latin.yaml")


def test_a_shipped_scenario_is_found_by_its_name(tmp_path: Path, text: str) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    for directory in (near, far):
        directory.mkdir()
        (directory / "burst.yaml").write_text(text)

    assert find("burst", [near, far]) == near / "burst.yaml"
    assert find(str(far / "burst.yaml"), [near]) == far / "burst.yaml"
    with pytest.raises(
        ScenarioError, match=r"bust: there is no such file or shipped scenario \(did you mean 'burst'\?\)"
    ):
        find("bust", [near, far])
