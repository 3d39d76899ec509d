"""Who may reach whom in the stack: each edge by name, read off the policies themselves."""

from collections.abc import Callable
from typing import Any

import pytest

Built = Callable[[str], list[dict[str, Any]]]
Edge = tuple[str, str, str]
WORKERS = ("bert-worker", "trt-worker", "vllm-worker")
SERVERS = ("llm-api", "router", *WORKERS)

OUTSIDE = {
    ("kubernetes.io/metadata.name", "ingress-nginx"): "ingress-nginx",
    ("kubernetes.io/metadata.name", "kube-system"): "kube-system",
    ("kubernetes.io/metadata.name", "monitoring"): "monitoring",
    ("kubernetes.io/metadata.name", "object-storage"): "object-storage",
}


@pytest.fixture(params=["llm/base", "llm/overlays/kind", "llm/overlays/gpu"])
def stack(request: pytest.FixtureRequest, built: Built) -> list[dict[str, Any]]:
    return built(request.param)


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    exact = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    expressions = selector.get("matchExpressions", ())
    assert all(one["operator"] == "In" for one in expressions)
    return exact and all(labels.get(one["key"]) in one["values"] for one in expressions)


def pods(stack: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    return {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]
        for one in stack
        if one["kind"] == "Deployment"
    }


def policies(stack: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in stack if one["kind"] == "NetworkPolicy"]


def peers(peer: dict[str, Any], labelled: dict[str, dict[str, str]]) -> list[str]:
    if "ipBlock" in peer:
        return [peer["ipBlock"]["cidr"]]
    if "namespaceSelector" in peer:
        # a namespace alone would let in all of its pods
        assert peer["podSelector"]["matchLabels"]
        ((key, value),) = peer["namespaceSelector"]["matchLabels"].items()
        return [OUTSIDE[key, value]]
    return [name for name, labels in labelled.items() if selects(peer["podSelector"], labels)]


def edges(stack: list[dict[str, Any]], direction: str, far: str) -> set[Edge]:
    labelled, found = pods(stack), set()
    for policy in policies(stack):
        chosen = [name for name, labels in labelled.items() if selects(policy["spec"]["podSelector"], labels)]
        for rule in policy["spec"].get(direction, ()):
            ports = {f"{port['protocol']}/{port['port']}" for port in rule["ports"]}
            names = [name for peer in rule[far] for name in peers(peer, labelled)]
            found |= {(mine, other, port) for mine in chosen for other in names for port in ports}
    return found


def test_every_pod_is_isolated_both_ways(stack: list[dict[str, Any]]) -> None:
    deny = [one["spec"] for one in policies(stack) if one["metadata"]["name"] == "default-deny"]

    assert deny == [{"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}]


def test_who_may_come_in(stack: list[dict[str, Any]]) -> None:
    assert edges(stack, "ingress", "from") == {
        ("llm-api", "ingress-nginx", "TCP/8000"),
        ("llm-web", "ingress-nginx", "TCP/8080"),
        ("router", "llm-api", "TCP/8000"),
        *((worker, "router", "TCP/8000") for worker in WORKERS),
        *((server, "monitoring", "TCP/8000") for server in SERVERS),
        ("llm-web", "monitoring", "TCP/8080"),
    }


def test_who_may_go_out(stack: list[dict[str, Any]]) -> None:
    private = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
    assert edges(stack, "egress", "to") == {
        ("llm-api", "router", "TCP/8000"),
        *(("router", worker, "TCP/8000") for worker in WORKERS),
        *(("router", cidr, "TCP/6443") for cidr in private),
        *((worker, "object-storage", "TCP/9000") for worker in WORKERS),
        *((name, "kube-system", f"{protocol}/53") for name in ("llm-api", *WORKERS) for protocol in ("TCP", "UDP")),
    }


def test_behind_traefik_only_the_controller_is_another(built: Built) -> None:
    ours, theirs = policies(built("llm/overlays/kind")), policies(built("llm/overlays/kind_traefik"))
    changed = [old["metadata"]["name"] for old, new in zip(ours, theirs, strict=True) if old != new]

    assert changed == ["ingress-controller-to-gateway", "ingress-controller-to-web"]
