"""What reachability is computed from: namespaces, pods, policies, services and ways in from outside.

Plain values without behaviour beyond naming themselves; `e2e.reach.parsing` makes them of manifests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from e2e.reach.addresses import AddressSet
from e2e.reach.selectors import Selector

NAME_LABEL = "kubernetes.io/metadata.name"
"""The label that the API server gives every namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPort:
    """A port that a container declares; only its name has a meaning for policies."""

    number: int
    protocol: str
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod, or what every pod of a workload will look like."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    owner: tuple[str, str] | None = None
    """Name and kind of what made it; the kind is `Pod` where it is not said."""
    ports: tuple[ContainerPort, ...] = ()
    is_on_host_network: bool = False
    addresses: tuple[str, ...] = ()
    node: str | None = None
    node_address: str | None = None

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}[Pod]"


@dataclass(frozen=True, slots=True)
class PodPeer:
    """Pods by their labels and their namespace's; None: the policy's own namespace, or any pod."""

    namespaces: Selector | None
    pods: Selector | None

    def __str__(self) -> str:
        where = "of its namespace" if self.namespaces is None else f"of namespaces {self.namespaces}"
        return f"pods {self.pods or 'any'} {where}"


@dataclass(frozen=True, slots=True)
class BlockPeer:
    """Addresses by CIDR."""

    addresses: AddressSet
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class PortRule:
    """One entry of `ports`: a number, a range, a container's name for it, or (None) every port of the protocol."""

    protocol: str
    port: int | str | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of `ingress` or `egress`; None: any peer, any port."""

    peers: tuple[PodPeer | BlockPeer, ...] | None
    ports: tuple[PortRule, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A NetworkPolicy: whom it isolates in which direction, and what it allows all the same."""

    namespace: str
    name: str
    selector: Selector
    ingress: tuple[Rule, ...] | None
    """None: it does not isolate this way."""
    egress: tuple[Rule, ...] | None

    def rules(self, direction: str) -> tuple[Rule, ...] | None:
        """Return what it says of "ingress" or "egress"."""
        return self.ingress if direction == "ingress" else self.egress

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """A service's port and the pods' port behind it."""

    number: int
    protocol: str
    name: str | None
    target: int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service with a selector."""

    namespace: str
    name: str
    selector: Selector
    ports: tuple[ServicePort, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WayIn:
    """A backend of an Ingress or Route; `port` is the service's number or name, None: each of its ports."""

    namespace: str
    source: str
    service: str
    port: int | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Everything that decides who can reach whom."""

    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labels by name, the API server's own label among them."""
    pods: tuple[Pod, ...] = ()
    policies: tuple[Policy, ...] = ()
    services: tuple[Service, ...] = ()
    ways_in: tuple[WayIn, ...] = ()
    notes: tuple[str, ...] = ()
    """What was read and cannot be taken into account, a sentence each."""
