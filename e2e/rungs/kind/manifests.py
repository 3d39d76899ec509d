"""The manifests of a flight: the stack's own ones, with the scenario's cluster in them and a namespace to themselves.

Gateway, router, roles, ingress and network policies are those of the kind overlay. A replica is a pod without a
controller, so that it is lost and comes back when the scenario says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster.place import NAMESPACE
from e2e.rungs.configuration import gateway_config, keys_of, pool_block, router_config, worker_config
from sim.experiment.disaggregation import name_of, with_prefill
from sim.experiment.scenario import LoadedScenario
from sim.experiment.schema import Pool

LABEL = "windtunnel.dev"
POOL, LISTED, PARTITIONED, FLIGHT = (f"{LABEL}/{word}" for word in ("pool", "listed", "partitioned", "flight"))
DECISIONS = "/tmp/decisions.jsonl"
CONFIG_DIRECTORY = "/etc/windtunnel"
WORKER = "vllm-worker"
"""Whose deployment is the pattern of every replica."""
_KEPT = {
    "Deployment": ("llm-api", "router"),
    "Service": ("api-gateway-service", "router-service"),
    "ServiceAccount": ("llm-api", "router", WORKER),
    "Role": ("router",),
    "RoleBinding": ("router",),
    "Ingress": ("api",),
}

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FlightManifests:
    """What is applied for a flight. `overlay` is the kind overlay as kustomize gives it."""

    loaded: LoadedScenario
    namespace: str
    host: str
    overlay: tuple[Object, ...]

    @classmethod
    def of(cls, loaded: LoadedScenario, namespace: str, host: str, rendered: str) -> FlightManifests:
        """Read the overlay's YAML."""
        objects = tuple(one for one in yaml.safe_load_all(rendered) if one)
        return cls(loaded, namespace, host, objects)

    @property
    def pools(self) -> dict[str, Pool]:
        """By name."""
        return {pool.name or pool.engine: pool for pool in with_prefill(self.loaded.scenario.cluster.pools)}

    @property
    def num_gateways(self) -> int:
        """As many as the scenario has, but one where limits would have to be shared through a Redis."""
        gateway = self.loaded.scenario.cluster.gateway
        return 1 if gateway.rate_limits else gateway.replicas

    def namespace_object(self) -> Object:
        """The namespace, with the stack's own labels."""
        [pattern] = [one for one in self.overlay if one["kind"] == "Namespace" and one["metadata"]["name"] == NAMESPACE]
        made = deepcopy(pattern)
        made["metadata"]["name"] = self.namespace
        made["metadata"]["labels"][FLIGHT] = "true"
        return made

    def objects(self, tls: Mapping[str, str]) -> list[Object]:
        """Everything but the replicas. `tls` is the data of the ingress's secret."""
        kept = [deepcopy(one) for one in self.overlay if _is_kept(one)]
        for one in kept:
            one["metadata"]["namespace"] = self.namespace
            getattr(self, f"_fit_{one['kind'].lower()}", _leave)(one)
        return [*self._configuration(), self._secret(tls), *kept, *map(self._service, self.pools)]

    def pod(self, name: str) -> Object:
        """One replica."""
        pool = name.rpartition("-")[0]
        [pattern] = [one for one in self.overlay if one["kind"] == "Deployment" and one["metadata"]["name"] == WORKER]
        template = deepcopy(pattern["spec"]["template"])
        spec = template["spec"]
        [container] = spec["containers"]
        container["env"] = [_environment("EMULATED_WORKER")]
        container["readinessProbe"] |= {"periodSeconds": 1}
        _mount(spec, container, "configMap", {"name": f"pool-{pool}"})
        # a replica that is lost stays lost until the flight brings it back
        spec |= {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5}
        spec.pop("topologySpreadConstraints", None)
        labels = template["metadata"]["labels"] | {POOL: pool, LISTED: "true"}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace, "labels": labels},
            "spec": spec,
        }

    def _configuration(self) -> Iterable[Object]:
        scenario = self.loaded.scenario
        policy = scenario.cluster.router.policy.name
        file, _, member = policy.partition(":")
        own = {Path(file).name: (self.loaded.base_dir / file).read_text()} if member else {}
        where = {"policy": f"{Path(file).name}:{member}" if member else policy, "policy_dir": CONFIG_DIRECTORY}
        blocks = [
            pool_block(self.loaded, pool) | where | {"endpoint_slices": self._slices_of(pool)}
            for pool in scenario.cluster.pools
        ]
        for name, pool in self.pools.items():
            yield self._config_map(f"pool-{name}", worker_config(name, pool))
        yield self._config_map("router", router_config(scenario, blocks, Path(DECISIONS)), own)
        to_gateway = gateway_config(scenario, "http://router-service", keys_of(scenario))
        yield self._config_map("llm-api", to_gateway)

    def _slices_of(self, pool: Pool) -> list[Object]:
        return [{"service": f"pool-{name_of(each)}"} for each in with_prefill([pool])]

    def _config_map(self, name: str, config: dict[str, Any], more: Mapping[str, str] | None = None) -> Object:
        data = {"config.json": json.dumps(config), **(more or {})}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": self._named(name), "data": data}

    def _secret(self, tls: Mapping[str, str]) -> Object:
        kind = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls"}
        return kind | {"metadata": self._named("llm-tls"), "data": dict(tls)}

    def _service(self, pool: str) -> Object:
        ports = [{"name": "http", "port": 8000, "targetPort": "http", "protocol": "TCP"}]
        spec = {"clusterIP": "None", "selector": {POOL: pool, LISTED: "true"}, "ports": ports}
        return {"apiVersion": "v1", "kind": "Service", "metadata": self._named(f"pool-{pool}"), "spec": spec}

    def _named(self, name: str) -> Object:
        return {"name": name, "namespace": self.namespace}

    def _fit_deployment(self, one: Object) -> None:
        name = one["metadata"]["name"]
        one["spec"]["replicas"] = self.num_gateways if name == "llm-api" else 1
        spec = one["spec"]["template"]["spec"]
        [container] = spec["containers"]
        container["env"] = [_environment("GATEWAY" if name == "llm-api" else "ROUTER")]
        spec["terminationGracePeriodSeconds"] = 5
        _mount(spec, container, "configMap", {"name": name})

    def _fit_rolebinding(self, one: Object) -> None:
        for subject in one["subjects"]:
            subject["namespace"] = self.namespace

    def _fit_networkpolicy(self, one: Object) -> None:
        if one["metadata"]["name"] == "workers-from-router":
            # who is partitioned falls to default deny
            one["spec"]["podSelector"]["matchExpressions"] = [{"key": PARTITIONED, "operator": "DoesNotExist"}]

    def _fit_ingress(self, one: Object) -> None:
        rule = one["spec"]["rules"][0]
        one["spec"]["rules"] = [rule | {"host": self.host}]
        one["spec"]["tls"] = [{"hosts": [self.host], "secretName": "llm-tls"}]


def _is_kept(one: Object) -> bool:
    is_ours = one["metadata"].get("namespace") == NAMESPACE
    kind, name = one["kind"], one["metadata"]["name"]
    return is_ours and (kind == "NetworkPolicy" or name in _KEPT.get(kind, ()))


def _leave(_: Object) -> None:
    """Of most kinds nothing is changed but the namespace."""


def _environment(program: str) -> Object:
    return {"name": f"WINDTUNNEL_{program}_CONFIG", "value": f"{CONFIG_DIRECTORY}/config.json"}


def _mount(spec: Object, container: Object, kind: str, source: Object) -> None:
    spec["volumes"] = [*spec.get("volumes", ()), {"name": "settings", kind: source}]
    mounted = {"name": "settings", "mountPath": CONFIG_DIRECTORY, "readOnly": True}
    container["volumeMounts"] = [*container.get("volumeMounts", ()), mounted]
