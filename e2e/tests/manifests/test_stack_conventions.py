"""Laws that every object of the stack keeps, in the base and in every overlay."""

import re
from collections.abc import Callable
from typing import Any

import pytest

STACKS = ["llm/base", "llm/overlays/kind", "llm/overlays/kind_traefik", "llm/overlays/gpu"]
NAMED_SERVICES = {
    "llm-web-service", "api-gateway-service", "router-service",
    "bert-worker-service", "vllm-worker-service", "trt-worker-service",
}  # fmt: skip

Built = Callable[[str], list[dict[str, Any]]]
pytestmark = pytest.mark.parametrize("stack", STACKS)


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == kind}


def pod_of(deployment: dict[str, Any]) -> dict[str, Any]:
    return deployment["spec"]["template"]["spec"]


def containers_of(deployment: dict[str, Any]) -> list[dict[str, Any]]:
    pod = pod_of(deployment)
    return [*pod["containers"], *pod.get("initContainers", ())]


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}, selector
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def test_the_services_have_the_names_that_others_rely_on(built: Built, stack: str) -> None:
    assert set(of_kind(built(stack), "Service")) == NAMED_SERVICES


def test_every_service_finds_pods_and_the_port_it_names(built: Built, stack: str) -> None:
    deployments = of_kind(built(stack), "Deployment").values()

    for name, service in of_kind(built(stack), "Service").items():
        behind = [
            pod_of(one)
            for one in deployments
            if matches({"matchLabels": service["spec"]["selector"]}, one["spec"]["template"]["metadata"]["labels"])
        ]
        assert len(behind) == 1, name
        ports = {port["name"] for port in behind[0]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_every_ingress_path_leads_to_a_port_of_a_service(built: Built, stack: str) -> None:
    services = of_kind(built(stack), "Service")

    for ingress in of_kind(built(stack), "Ingress").values():
        tls = {host for block in ingress["spec"]["tls"] for host in block["hosts"]}
        for rule in ingress["spec"]["rules"]:
            assert rule["host"] in tls
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                ports = {port["name"] for port in services[service["name"]]["spec"]["ports"]}
                assert service["port"]["name"] in ports


def test_the_namespace_takes_restricted_pods_only(built: Built, stack: str) -> None:
    (namespace,) = of_kind(built(stack), "Namespace").values()

    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_container_is_unprivileged_and_cannot_write_its_own_files(built: Built, stack: str) -> None:
    for name, deployment in of_kind(built(stack), "Deployment").items():
        pod = pod_of(deployment)["securityContext"]
        assert pod["runAsNonRoot"] is True, name
        assert pod["runAsUser"] >= 1000, name
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in containers_of(deployment):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, (name, container["name"])


def test_every_container_says_what_it_needs_and_what_it_may_use(built: Built, stack: str) -> None:
    for name, deployment in of_kind(built(stack), "Deployment").items():
        for container in containers_of(deployment):
            resources = container["resources"]
            assert set(resources["requests"]) >= {"cpu", "memory"}, (name, container["name"])
            assert "memory" in resources["limits"], (name, container["name"])


def test_every_server_has_its_three_probes(built: Built, stack: str) -> None:
    for name, deployment in of_kind(built(stack), "Deployment").items():
        (server,) = pod_of(deployment)["containers"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            handlers = {"httpGet", "tcpSocket"} & set(server[probe])
            assert len(handlers) == 1, (name, probe)
            assert server[probe][handlers.pop()]["port"] == "http", (name, probe)


def test_a_rolling_update_never_has_fewer_pods_and_pods_have_time_to_end(built: Built, stack: str) -> None:
    for name, deployment in of_kind(built(stack), "Deployment").items():
        assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        (server,) = pod_of(deployment)["containers"]
        seconds = {
            variable["name"].rpartition("_WORKER_")[2].rpartition("_")[0].rpartition("_")[2]: float(variable["value"])
            for variable in server["env"]
            if re.search("_(DRAIN|SHUTDOWN)_SECONDS$", variable["name"])
        }
        assert seconds["DRAIN"] >= 5, name
        assert pod_of(deployment)["terminationGracePeriodSeconds"] > seconds["DRAIN"] + seconds["SHUTDOWN"], name


def test_every_deployment_has_a_budget_a_spread_and_an_account_of_its_own(built: Built, stack: str) -> None:
    budgets = of_kind(built(stack), "PodDisruptionBudget").values()
    accounts = of_kind(built(stack), "ServiceAccount")

    for name, deployment in of_kind(built(stack), "Deployment").items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert sum(matches(budget["spec"]["selector"], labels) for budget in budgets) == 1, name
        (spread,) = pod_of(deployment)["topologySpreadConstraints"]
        assert matches(spread["labelSelector"], labels), name
        assert accounts[pod_of(deployment)["serviceAccountName"]]["automountServiceAccountToken"] is False
        # only the router asks Kubernetes anything
        assert pod_of(deployment)["automountServiceAccountToken"] is (name == "router")


def test_the_number_of_pods_is_said_by_an_autoscaler_or_by_the_deployment(built: Built, stack: str) -> None:
    scaled = {
        one["spec"]["scaleTargetRef"]["name"] for one in of_kind(built(stack), "HorizontalPodAutoscaler").values()
    }

    for name, deployment in of_kind(built(stack), "Deployment").items():
        assert ("replicas" in deployment["spec"]) is (name not in scaled), name


def test_secrets_are_named_and_never_held(built: Built, stack: str) -> None:
    assert not of_kind(built(stack), "Secret")


def test_the_router_may_follow_endpoint_slices_and_nothing_else(built: Built, stack: str) -> None:
    (role,) = of_kind(built(stack), "Role").values()
    (binding,) = of_kind(built(stack), "RoleBinding").values()

    assert role["rules"] == [
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]}
    ]
    assert [(one["kind"], one["name"]) for one in binding["subjects"]] == [("ServiceAccount", "router")]
    assert not of_kind(built(stack), "ClusterRole")


def test_every_object_is_labelled_as_a_part_of_the_stack(built: Built, stack: str) -> None:
    for one in built(stack):
        labels = one["metadata"].get("labels", {})
        assert labels.get("app.kubernetes.io/part-of") == "windtunnel", (one["kind"], one["metadata"]["name"])


def test_images_have_a_version_and_never_the_latest(built: Built, stack: str) -> None:
    for deployment in of_kind(built(stack), "Deployment").values():
        for container in containers_of(deployment):
            assert re.fullmatch(r"windtunnel/[a-z-]+:\d+\.\d+\.\d+", container["image"])
