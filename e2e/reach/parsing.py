"""Manifests as mappings made into a `Cluster`: which kinds count, and what their fields mean.

Pods of Deployments, StatefulSets, DaemonSets, ReplicaSets, ReplicationControllers, Jobs and CronJobs are read from
their templates. Sources: the API reference of networking.k8s.io/v1, apps/v1, batch/v1 and v1. Start at `cluster_of`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from e2e.reach.addresses import AddressSet
from e2e.reach.fields import Field
from e2e.reach.objects import (
    NAME_LABEL,
    BlockPeer,
    Cluster,
    ContainerPort,
    Pod,
    PodPeer,
    Policy,
    PortRule,
    Rule,
    Service,
    ServicePort,
    WayIn,
)
from e2e.reach.selectors import OPERATORS, Requirement, Selector
from sim.experiment.errors import InputError

TEMPLATES = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
"""Where a workload's pod template stands."""
BEYOND = {"AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy", "GlobalNetworkPolicy"}
"""Kinds that decide reachability too, and are not part of networking.k8s.io/v1."""
DIRECTIONS = ("Ingress", "Egress")
DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object as read, and the file (or command) it came from."""

    content: dict[str, Any]
    origin: str

    @property
    def kind(self) -> str:
        """Its kind."""
        return str(self.content.get("kind") or "")

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, namespace and name."""
        about = self.content.get("metadata") or {}
        if not isinstance(about, dict):
            raise InputError(f"{self.origin}: {self.kind}: metadata: expected a mapping, found {about!r}")
        return self.kind, about.get("namespace") or DEFAULT_NAMESPACE, str(about.get("name") or "")

    @property
    def root(self) -> Field:
        """Its fields, with paths that begin with the file and the object's name."""
        return Field(self.content, f"{self.origin}: {self.kind} {self.key[2]}: ")


@dataclass(slots=True)
class _Gathered:
    """A cluster while it is being read; ends as a `Cluster`."""

    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    pods: dict[tuple[str, str, str], Pod] = field(default_factory=dict)
    policies: list[Policy] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    ways_in: list[WayIn] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    origins: dict[tuple[str, str, str], Manifest] = field(default_factory=dict)


def cluster_of(manifests: Iterable[Manifest]) -> Cluster:
    """Make a cluster of manifests; kinds that decide nothing are passed over.

    Raises:
        InputError: a field cannot be used, or one policy stands in two places with different contents.
    """
    gathered = _Gathered()
    for manifest in manifests:
        _take(manifest, gathered)
    for namespace in {pod.namespace for pod in gathered.pods.values()} | {p.namespace for p in gathered.policies}:
        gathered.namespaces.setdefault(namespace, {})
    for name, labels in gathered.namespaces.items():
        labels[NAME_LABEL] = name
    return Cluster(
        namespaces=gathered.namespaces,
        pods=tuple(gathered.pods.values()),
        policies=tuple(gathered.policies),
        services=tuple(gathered.services),
        ways_in=tuple(gathered.ways_in),
        notes=tuple(gathered.notes),
    )


def _take(manifest: Manifest, gathered: _Gathered) -> None:
    kind, namespace, name = manifest.key
    before = gathered.origins.setdefault(manifest.key, manifest)
    if before is not manifest and kind == "NetworkPolicy":
        if before.content == manifest.content:
            return
        raise InputError(
            f"{manifest.origin}: NetworkPolicy {namespace}/{name} stands in {before.origin} too, with other contents; "
            "name one kustomization or one of the files"
        )
    root = manifest.root
    match kind:
        case "Namespace":
            gathered.namespaces[name] = root["metadata"]["labels"].labels()
        case "Pod":
            if root["status"]["phase"].text("Running") not in ("Succeeded", "Failed"):
                gathered.pods[manifest.key] = _pod(root, root["metadata"], namespace, name, _owner(root["metadata"]))
        case "NetworkPolicy":
            gathered.policies.append(policy_of(root, namespace, name))
        case "Service":
            gathered.services.extend(_service(root, namespace, name))
        case "Ingress" | "Route":
            gathered.ways_in.extend(_ways_in(root, namespace, f"{kind} {namespace}/{name}"))
        case _ if kind in TEMPLATES:
            template = root
            for key in TEMPLATES[kind]:
                template = template[key]
            gathered.pods[manifest.key] = _pod(template, template["metadata"], namespace, name, (name, kind))
        case _ if kind in BEYOND:
            gathered.notes.append(
                f"{manifest.origin}: {kind} {name} is not part of networking.k8s.io/v1 and is ignored"
            )


def _owner(about: Field) -> tuple[str, str] | None:
    for reference in about["ownerReferences"].items():
        if reference["controller"].value and reference["kind"].value != "Node":
            return reference["name"].text(), reference["kind"].text("Pod")
    return None


def _pod(root: Field, about: Field, namespace: str, name: str, owner: tuple[str, str] | None) -> Pod:
    spec, status = root["spec"], root["status"]
    found = [one["ip"].text() for one in status["podIPs"].items()]
    if not found and not status["podIP"].is_absent:
        found = [status["podIP"].text()]
    containers = [*spec["containers"].items(), *spec["initContainers"].items()]
    return Pod(
        namespace=namespace,
        name=name,
        labels=about["labels"].labels(),
        owner=owner,
        ports=tuple(_container_port(port) for one in containers for port in one["ports"].items() if _is_port(port)),
        is_on_host_network=bool(spec["hostNetwork"].value),
        addresses=tuple(found),
        node=spec["nodeName"].value,
        node_address=status["hostIP"].value,
    )


def _is_port(port: Field) -> bool:
    return not port["containerPort"].is_absent


def _container_port(port: Field) -> ContainerPort:
    return ContainerPort(
        number=port["containerPort"].port(),
        protocol=port["protocol"].one_of(("TCP", "UDP", "SCTP"), "TCP"),
        name=None if port["name"].is_absent else port["name"].text(),
    )


def policy_of(root: Field, namespace: str, name: str) -> Policy:
    """Read a NetworkPolicy.

    Without policyTypes it isolates ingress, and egress where it has an egress section.
    """
    spec = root["spec"]
    if spec.is_absent:
        spec.refuse("a policy's spec")
    types = [one.one_of(DIRECTIONS) for one in spec["policyTypes"].items()]
    if not types:
        types = ["Ingress"] + (["Egress"] if list(spec["egress"].items()) else [])
    return Policy(
        namespace=namespace,
        name=name,
        selector=selector_of(spec["podSelector"]),
        ingress=_rules(spec["ingress"], "from") if "Ingress" in types else None,
        egress=_rules(spec["egress"], "to") if "Egress" in types else None,
    )


def selector_of(found: Field) -> Selector:
    """Read a label selector; an absent one is read as empty."""
    requirements = [Requirement(key, "In", (value,)) for key, value in found["matchLabels"].labels().items()]
    for expression in found["matchExpressions"].items():
        operator = expression["operator"].one_of(OPERATORS)
        values = tuple(value.text() for value in expression["values"].items())
        if (operator in ("In", "NotIn")) != bool(values):
            expression["values"].refuse("at least one value" if not values else f"no values with {operator}")
        requirements.append(Requirement(expression["key"].text(), operator, values))
    return Selector(tuple(sorted(requirements, key=lambda one: (one.key, one.operator, one.values))))


def _rules(found: Field, peers: str) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            peers=tuple(_peer(one) for one in rule[peers].items()) or None,
            ports=tuple(_port_rule(one) for one in rule["ports"].items()) or None,
        )
        for rule in found.items()
    )


def _peer(found: Field) -> PodPeer | BlockPeer:
    block, pods, namespaces = found["ipBlock"], found["podSelector"], found["namespaceSelector"]
    given = [key for key in ("ipBlock", "podSelector", "namespaceSelector") if key in found.mapping()]
    if not given or ("ipBlock" in given and len(given) > 1):
        found.refuse("ipBlock, or podSelector, namespaceSelector or both")
    if "ipBlock" in given:
        excepted = [one.text() for one in block["except"].items()]
        try:
            addresses = AddressSet.block(block["cidr"].text(), excepted)
        except ValueError as error:
            block.refuse(f"CIDRs such as 10.0.0.0/8 ({error})")
        without = f" except {', '.join(excepted)}" if excepted else ""
        return BlockPeer(addresses, block["cidr"].text() + without)
    return PodPeer(
        None if namespaces.is_absent else selector_of(namespaces), None if pods.is_absent else selector_of(pods)
    )


def _port_rule(found: Field) -> PortRule:
    protocol = found["protocol"].one_of(("TCP", "UDP", "SCTP"), "TCP")
    if found["port"].is_absent:
        if not found["endPort"].is_absent:
            found["endPort"].refuse("a port with it")
        return PortRule(protocol)
    port = found["port"].port_or_name()
    if found["endPort"].is_absent:
        return PortRule(protocol, port)
    if isinstance(port, str):
        found["endPort"].refuse("a port with a number, not a name")
    last = found["endPort"].port()
    if last < port:
        found["endPort"].refuse(f"at least {port}")
    return PortRule(protocol, port, last)


def _service(root: Field, namespace: str, name: str) -> list[Service]:
    spec = root["spec"]
    labels = spec["selector"].labels()
    if not labels:
        return []
    ports = tuple(
        ServicePort(
            number=one["port"].port(),
            protocol=one["protocol"].one_of(("TCP", "UDP", "SCTP"), "TCP"),
            name=one["name"].value,
            target=one["port"].port() if one["targetPort"].is_absent else one["targetPort"].port_or_name(),
        )
        for one in spec["ports"].items()
    )
    selector = Selector(tuple(Requirement(key, "In", (value,)) for key, value in sorted(labels.items())))
    return [Service(namespace=namespace, name=name, selector=selector, ports=ports)]


def _ways_in(root: Field, namespace: str, source: str) -> list[WayIn]:
    spec = root["spec"]
    if source.startswith("Route"):
        targets = [spec["to"], *spec["alternateBackends"].items()]
        port = spec["port"]["targetPort"].value
        return [
            WayIn(namespace=namespace, source=source, service=one["name"].text(), port=port)
            for one in targets
            if not one.is_absent
        ]
    backends = [spec["defaultBackend"]]
    for rule in spec["rules"].items():
        backends += [path["backend"] for path in rule["http"]["paths"].items()]
    found = []
    for backend in backends:
        service = backend["service"]
        if service.is_absent:
            continue
        number, port_name = service["port"]["number"], service["port"]["name"]
        port = number.port() if not number.is_absent else port_name.value
        found.append(WayIn(namespace=namespace, source=source, service=service["name"].text(), port=port))
    return found
