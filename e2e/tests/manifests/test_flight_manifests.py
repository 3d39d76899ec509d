"""The manifests of a flight: valid, restricted, closed as the stack is, with the scenario's cluster in them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cli import run
from e2e.rungs.kind.manifests import PARTITIONED, FlightManifests
from e2e.shipped import find_scenario
from reference.router.settings import RouterSettings
from reference.worker.emulated.settings import EmulatedSettings
from sim.experiment.scenario import load

Built = Callable[[str], list[dict[str, Any]]]
SCENARIO = """\
windtunnel: 1
name: two-pools
about: Two models, one of them on a policy of one's own.
seed: 7
workload:
  arrivals: {process: poisson, rate: 4/s}
  duration: 20s
  lengths: {input: 64, output: 8}
  tenants: [{name: red, share: 1}, {name: blue, share: 1}]
  classes: [{name: chat, model: steady, slo: {ttft: 2s, attainment: 0.9}}]
cluster:
  gateway: {replicas: 3, rate_limits: [{tenant: red, requests: 2/s}]}
  router: {policy: "my_policies.py:StickyByTenant"}
  pools:
    - {name: fast, model: steady, replicas: 2, max_model_len: 4096, num_gpu_blocks: 1000, step_cost: {base: 5ms}}
    - {name: slow, model: slower, replicas: 1, max_model_len: 4096, num_gpu_blocks: 1000, step_cost: {base: 9ms}}
"""
HOST = "flight-1.windtunnel.test"


@pytest.fixture
def flight(built: Built, tmp_path: Path) -> FlightManifests:
    (tmp_path / "two.yaml").write_text(SCENARIO)
    shutil.copy(find_scenario("own_policy").with_name("my_policies.py"), tmp_path)
    text = yaml.safe_dump_all(built("llm/overlays/kind"))
    return FlightManifests.of(load(tmp_path / "two.yaml", ()), "flight-1", HOST, text)


@pytest.fixture
def objects(flight: FlightManifests) -> list[dict[str, Any]]:
    pods = [flight.pod(name) for name in ("fast-0", "fast-1", "slow-0")]
    return [flight.namespace_object(), *flight.objects({"tls.crt": "", "tls.key": ""}), *pods]


def named(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    [found] = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def config(objects: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return json.loads(named(objects, "ConfigMap", name)["data"]["config.json"])


def test_every_object_is_valid_and_in_the_flights_own_namespace(objects: list[dict[str, Any]]) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    for one in objects:
        validate.validate(one, "1.36", strict=True)
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "flight-1"
    assert named(objects, "RoleBinding", "router")["subjects"][0]["namespace"] == "flight-1"
    assert named(objects, "Namespace", "flight-1")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == (
        "restricted"
    )


def test_servers_take_the_settings_that_they_get(
    objects: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # as in a pod
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    router = RouterSettings.model_validate(config(objects, "router"))
    fast = EmulatedSettings.model_validate(config(objects, "pool-fast"))
    slow = EmulatedSettings.model_validate(config(objects, "pool-slow"))

    assert [[one.service for one in pool.endpoint_slices] for pool in router.pools] == [["pool-fast"], ["pool-slow"]]
    assert {pool.policy for pool in router.pools} == {"my_policies.py:StickyByTenant"}
    assert "class StickyByTenant" in named(objects, "ConfigMap", "router")["data"]["my_policies.py"]
    assert (fast.step_cost["overhead"], slow.step_cost["overhead"]) == pytest.approx((0.005, 0.009))
    keys = config(objects, "llm-api")["keys"]
    assert {key["tenant"] for key in keys} == {"red", "blue"}


def test_gateways_with_limits_are_one_because_nothing_is_there_to_share_them_by(
    flight: FlightManifests, objects: list[dict[str, Any]]
) -> None:
    from e2e.rungs.kind.rung import left_out

    assert named(objects, "Deployment", "llm-api")["spec"]["replicas"] == 1
    assert any("One gateway instead of 3" in sentence for sentence in left_out(flight.loaded.scenario))


def test_only_the_flights_own_host_is_answered(objects: list[dict[str, Any]]) -> None:
    spec = named(objects, "Ingress", "api")["spec"]

    assert [rule["host"] for rule in spec["rules"]] == [HOST]
    assert spec["tls"] == [{"hosts": [HOST], "secretName": "llm-tls"}]


def test_a_replica_stays_lost_until_the_flight_brings_it_back(flight: FlightManifests) -> None:
    pod = flight.pod("slow-0")

    assert pod["spec"]["restartPolicy"] == "Never"
    assert "ownerReferences" not in pod["metadata"]


def test_it_is_as_closed_as_the_stack_and_who_is_partitioned_is_reached_by_nobody(
    flight: FlightManifests, objects: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named(objects, "Pod", "fast-1")["metadata"]["labels"][PARTITIONED] = "true"
    (tmp_path / "flight.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    assert run(["reach", str(tmp_path / "flight.json"), "--format", "connlist"]) == 0

    told = [line for line in capsys.readouterr().out.splitlines() if "flight-1/fast" in line or "flight-1/slow" in line]
    assert told == [
        "flight-1/router[Deployment] => flight-1/fast-0[Pod] : TCP 8000",
        "flight-1/router[Deployment] => flight-1/slow-0[Pod] : TCP 8000",
    ]


def test_replicas_for_prefill_are_workers_as_the_others_and_that_is_said(built: Built, tmp_path: Path) -> None:
    from e2e.rungs.kind.rung import left_out

    more = "step_cost: {base: 5ms}, disaggregated: {prefill_replicas: 1, kv_bytes_per_token: 1000}}"
    (tmp_path / "two.yaml").write_text(SCENARIO.replace("step_cost: {base: 5ms}}", more, 1))
    shutil.copy(find_scenario("own_policy").with_name("my_policies.py"), tmp_path)
    text = yaml.safe_dump_all(built("llm/overlays/kind"))
    flight = FlightManifests.of(load(tmp_path / "two.yaml", ()), "flight-1", HOST, text)
    objects = flight.objects({"tls.crt": "", "tls.key": ""})

    settings = RouterSettings.model_validate(config(objects, "router") | {"kubernetes": {"url": "http://k"}})
    assert [[slices.service for slices in pool.endpoint_slices] for pool in settings.pools] == [
        ["pool-fast", "pool-fast-prefill"],
        ["pool-slow"],
    ]
    assert any("each of its 3 replicas, those for prefill too" in one for one in left_out(flight.loaded.scenario))
