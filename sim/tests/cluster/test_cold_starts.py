"""Cold starts made of parts: the image once a node, the weights by size and bandwidth, readiness."""

from __future__ import annotations

from typing import Any

import pytest

from sim.cluster.cold_start import cold_start_of
from sim.experiment.errors import InputError
from sim.experiment.schema import Pool

STARTUP = {"image_gb": 8.0, "pull_gb_per_s": 2.0, "weights_gb": 6.0, "load_gb_per_s": 3.0, "readiness": 5.0}


def pool(**fields: Any) -> Pool:
    return Pool.model_validate({"model": "m", "replicas": 1, "step_cost": {"base": 0.01}} | fields)


def ready_times(record: Any) -> dict[str, float]:
    return {event["target"]: event["at"] for event in record.events if event["kind"] == "replica_ready"}


def test_the_parts_add_up_and_the_image_is_pulled_where_it_is_missing() -> None:
    cold_start = cold_start_of(pool(startup=STARTUP))

    assert cold_start.seconds(has_image=True) == 2.0 + 5.0
    assert cold_start.seconds(has_image=False) == 4.0 + 2.0 + 5.0
    assert cold_start_of(pool(cold_start=42.0)).seconds(has_image=False) == 42.0


def test_only_a_new_replica_waits_to_be_scheduled(scenario: Any, workload: Any, flown: Any) -> None:
    """And what is ready says what its start was made of."""
    startup = STARTUP | {"scheduling": 9.0}
    cold_start = cold_start_of(pool(startup=startup))
    assert cold_start.seconds(has_image=False, is_new=True) == 9.0 + 4.0 + 2.0 + 5.0
    assert cold_start.seconds(has_image=True) == 2.0 + 5.0

    autoscale = {"max_replicas": 2, "target": 1.0, "interval": 2.0, "stabilisation": 300.0}
    loaded = scenario(
        pool={"replicas": 1, "startup": startup, "autoscale": autoscale},
        faults=[{"at": 40.0, "kind": "replica_crash", "target": "vllm-0", "lasts": 3.0}],
    )
    record = flown(loaded, workload(*[(0.1 * at, 20, 400) for at in range(60)], duration=60.0))
    ready = [(event["target"], event["about"]) for event in record.events if event["kind"] == "replica_ready"]
    assert ready == [
        ("vllm-1", "cold start over: asked for at 2.0 s; scheduling 9 s, image 4 s, weights 2 s, readiness 5 s"),
        ("vllm-0", "cold start over: started again at 43.0 s; weights 2 s, readiness 5 s"),
    ]
    assert ready_times(record)["vllm-1"] == pytest.approx(2.0 + 20.0)


def test_weights_are_as_large_as_the_model_and_its_precision_say() -> None:
    startup = {"load_gb_per_s": 1.0, "readiness": 0.0}
    whole = cold_start_of(pool(model="Llama-3.1-8B-Instruct", startup=startup))
    half = cold_start_of(pool(model="Llama-3.1-8B-Instruct", weights="fp8", startup=startup))

    assert whole.load == pytest.approx(16.06, rel=0.01)
    assert half.load == pytest.approx(whole.load / 2)
    with pytest.raises(InputError, match="startup: give weights_gb, because unknown model 'm'"):
        cold_start_of(pool(startup=startup))


def test_a_pool_says_once_how_long_a_start_takes() -> None:
    with pytest.raises(ValueError, match="cold_start and startup both say"):
        pool(cold_start=5.0, startup=STARTUP)


def test_a_crashed_replica_finds_the_image_on_its_node(scenario: Any, workload: Any, flown: Any) -> None:
    loaded = scenario(
        pool={"replicas": 1, "startup": STARTUP},
        faults=[{"at": 1.0, "kind": "replica_crash", "target": "vllm-0", "lasts": 3.0}],
    )
    record = flown(loaded, workload((30.0, 10, 10)))

    assert ready_times(record) == {"vllm-0": pytest.approx(1.0 + 3.0 + 7.0)}


def test_a_new_node_pulls_the_image_and_a_second_replica_on_it_does_not(
    scenario: Any, workload: Any, flown: Any
) -> None:
    autoscale = {"max_replicas": 4, "target": 1.0, "interval": 2.0, "stabilisation": 300.0}
    loaded = scenario(pool={"replicas": 1, "replicas_per_node": 1, "startup": STARTUP, "autoscale": autoscale})
    record = flown(loaded, workload(*[(0.1 * at, 20, 400) for at in range(60)], duration=60.0))
    asked = min(event["at"] for event in record.events if event["kind"] == "scale_up")
    ready = ready_times(record)

    assert min(ready.values()) == pytest.approx(asked + 11.0)

    shared = scenario(pool={"replicas": 1, "replicas_per_node": 2, "startup": STARTUP, "autoscale": autoscale})
    record = flown(shared, workload(*[(0.1 * at, 20, 400) for at in range(60)], duration=60.0))
    asked = min(event["at"] for event in record.events if event["kind"] == "scale_up")
    assert ready_times(record)["vllm-1"] == pytest.approx(asked + 7.0)
