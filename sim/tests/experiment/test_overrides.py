"""--set: a dotted key reaches what the file has, by number or by name, and is blamed for what it breaks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.experiment.scenario import LoadedScenario, ScenarioError, parse

Read = Callable[..., LoadedScenario]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 500), st.integers(0, 2**31), st.integers(1, 10_000))
def test_a_scenario_as_flown_reads_the_same_without_its_overrides(
    read: Read, replicas: int, seed: int, milliseconds: int
) -> None:
    sets = (f"cluster.pools.0.replicas={replicas}", f"seed={seed}", f"workload.classes.chat.slo.ttft={milliseconds}ms")

    loaded = read(sets=sets)

    again = parse(loaded.yaml_text, "again.yaml", loaded.base_dir)
    assert again.scenario == loaded.scenario
    assert loaded.scenario.cluster.pools[0].replicas == replicas
    assert loaded.scenario.seed == seed
    assert loaded.scenario.workload.classes[0].slo.ttft == pytest.approx(milliseconds / 1000)


def test_without_overrides_the_text_is_flown_as_it_stands(read: Read, text: str) -> None:
    assert read().yaml_text == text


def test_a_list_entry_goes_by_number_by_name_or_by_the_name_of_its_engine(read: Read) -> None:
    named = ("gpu: l40s", "gpu: l40s, name: small")

    assert read(sets=("cluster.pools.0.replicas=3",)).scenario.cluster.pools[0].replicas == 3
    assert read(sets=("cluster.pools.vllm.replicas=3",)).scenario.cluster.pools[0].replicas == 3
    assert read(named, sets=("cluster.pools.small.replicas=3",)).scenario.cluster.pools[0].replicas == 3


def test_blocks_that_the_file_leaves_out_can_be_set(read: Read) -> None:
    assert read(sets=("measure.warm_up=5s",)).scenario.measure.warm_up == 5.0
    assert read(sets=("cluster.router.queue.max_wait=5s",)).scenario.cluster.router.queue.max_wait == 5.0


def test_a_value_may_be_a_list_a_mapping_or_nothing(read: Read) -> None:
    loaded = read(sets=("measure.percentiles=[50, 75]", "workload.lengths={input: 5, output: 6}", "measure.warm_up=0s"))

    assert loaded.scenario.measure.percentiles == (50, 75)
    assert loaded.scenario.workload.lengths is not None
    assert loaded.scenario.workload.lengths.output.mean == 6
    assert read(sets=("workload.classes.0.slo.ttft=",)).scenario.workload.classes[0].slo.ttft is None


def test_an_option_can_be_given_to_a_policy_that_stands_there_as_a_bare_name(read: Read) -> None:
    loaded = read(sets=("cluster.router.policy=prefix_aware", "cluster.router.policy.options={}"))

    assert loaded.scenario.cluster.router.policy.name == "prefix_aware"


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("seed", "--set seed: expected key=value, such as cluster.pools.0.replicas=3"),
        ("=3", "--set =3: expected key=value"),
        ("seed=x", "--set seed=x: seed: 'x': expected a whole number"),
        ("seeds=3", "--set seeds=3: seeds: unknown key 'seeds' (did you mean 'seed'?)"),
        ("clusters.x=3", "--set clusters.x=3: clusters: unknown key 'clusters' (did you mean 'cluster'?)"),
        (
            "cluster.pools.0.replicas=0",
            "--set cluster.pools.0.replicas=0: cluster.pools.0.replicas: 0: expected greater",
        ),
        (
            "cluster.pools.vlm.replicas=1",
            "there is no 'vlm' in cluster.pools (did you mean 'vllm'?); expected one of 0, v",
        ),
        ("cluster.pools.7.replicas=1", "--set cluster.pools.7.replicas=1: there is no '7' in cluster.pools; expected"),
        ("name.first=x", "--set name.first=x: name has no parts, so 'first' cannot be set in it"),
        ("workload.duration=10", "workload.duration: 10: expected a duration with its unit"),
        ("seed=[1", "--set seed=[1: '[1' is not a YAML value"),
        (
            "cluster.router.policy.options.x=3",
            "s.yaml:12: cluster.router.policy: least_in_flight has no option 'x'; it has: none "
            "(with --set cluster.router.policy.options.x=3)",
        ),
    ],
)
def test_an_override_that_does_not_fit_is_named(read: Read, override: str, problem: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        read(sets=(override,))

    assert problem in str(refused.value)
