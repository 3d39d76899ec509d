"""Parts of which cases of network policies are made: selectors, ports, policies, and what is done to a cluster."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

Policy = dict[str, Any]
Rules = list[dict[str, Any]]

NAMESPACES, PODS = ("x", "y", "z"), ("a", "b", "c")
PORTS = {80: ("serve-80-tcp", "serve-80-udp"), 81: ("serve-81-tcp", "serve-81-udp")}
EMPTY: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Change:
    """One thing done to the cluster. `what`: apply or delete a policy, label, make or delete a pod or a namespace."""

    what: str
    namespace: str
    name: str = ""
    given: Any = None


Step = tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One case: its steps, after each of which prediction and measurement are compared."""

    group: str
    name: str
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"

    @property
    def names_ports(self) -> bool:
        """Whether a policy speaks of a port by its name."""
        return "serve-" in str(self.steps)


def labelled(**labels: str) -> dict[str, Any]:
    """Return a selector by labels."""
    return {"matchLabels": labels}


def among(key: str, *values: str, operator: str = "In") -> dict[str, Any]:
    """Return a selector by an expression."""
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def port(protocol: str | None = None, number: int | str | None = None, end: int | None = None) -> dict[str, Any]:
    """Return a port of a rule; what is None is left out."""
    given = {"protocol": protocol, "port": number, "endPort": end}
    return {key: value for key, value in given.items() if value is not None}


DNS = {"ports": [port("UDP", 53)]}
EVERY_POD = [{"to": [{"namespaceSelector": EMPTY}]}]
EVERY_ADDRESS = [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]
NO_ADDRESS = [{"to": [{"ipBlock": {"cidr": "0.0.0.0/31"}}]}]
NO_POD = [{"to": [{"namespaceSelector": labelled(**{"this-will-never-be": "so"})}]}]


def policy(
    name: str,
    namespace: str = "x",
    selector: dict[str, Any] | None = None,
    *,
    ingress: Rules | None = None,
    egress: Rules | None = None,
) -> Policy:
    """Return a policy of the types whose rules are given. Rules of peers say `to`; for ingress that is turned."""
    spec: dict[str, Any] = {"podSelector": labelled(pod="a") if selector is None else selector, "policyTypes": []}
    if ingress is not None:
        spec["policyTypes"].append("Ingress")
        spec["ingress"] = [{"from" if key == "to" else key: part for key, part in rule.items()} for rule in ingress]
    if egress is not None:
        spec["policyTypes"].append("Egress")
        spec["egress"] = deepcopy(egress)
    about = {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": about, "spec": spec}


def base(**changed: Any) -> Policy:
    """Return the policy that is varied: pod a of x, TCP 80 from b and c of x and y, to a and b of y and z, and DNS."""
    peers_in = {"podSelector": among("pod", "b", "c"), "namespaceSelector": among("ns", "x", "y")}
    peers_out = {"podSelector": among("pod", "a", "b"), "namespaceSelector": among("ns", "y", "z")}
    ingress = [{"ports": [port("TCP", 80)], "to": [peers_in]}]
    egress = [{"ports": [port("TCP", 80)], "to": [peers_out]}, DNS]
    return policy("base", **{"ingress": ingress, "egress": egress, **changed})


def varied(direction: str, **parts: Any) -> Policy:
    """Return the base policy with parts (`to`, `ports`) of its first rule of a direction changed."""
    given = base()
    rule = given["spec"][direction][0]
    for key, part in parts.items():
        rule["from" if key == "to" and direction == "ingress" else key] = part
    return given


def put(given: Policy) -> Change:
    """Apply a policy."""
    return Change("apply", given["metadata"]["namespace"], given["metadata"]["name"], given)
