"""Who can talk: workloads, pieces of the address space outside, and an ingress controller whose pods are not given.

Pods of one owner are one party, unless their labels differ where a policy looks. Start at `parties_of`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from e2e.reach.addresses import AddressSet, Range, pieces
from e2e.reach.objects import BlockPeer, Cluster, Pod, PodPeer, Policy
from e2e.reach.selectors import Selector

CONTROLLER = "{ingress-controller}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """One side of a connection; pods that share it are alike for every policy.

    Exactly one of `pods`, `outside` and `is_controller` says what it is.
    """

    name: str
    pods: tuple[Pod, ...] = ()
    outside: Range | None = None
    is_controller: bool = False
    is_policed: bool = True
    """Whether policies can select it; false outside, and for pods on their node's network if they count as the node."""
    targets: int = 0
    """The policies that select it, a bit each."""
    matches: int = 0
    """The peers of rules that it is, a bit each."""

    @property
    def named_ports(self) -> tuple[tuple[str, str, int], ...]:
        """Name, protocol and number of its containers' named ports."""
        return named_ports(self.pods[0]) if self.pods else ()

    @property
    def namespace(self) -> str | None:
        """Its namespace, if it is a workload."""
        return self.pods[0].namespace if self.pods else None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Predicates:
    """Everything that policies ask of pods, numbered, so that a pod's answers are the bits of one integer."""

    policies: tuple[Policy, ...]
    peers: Mapping[tuple[str, PodPeer | BlockPeer], int]
    """Number by the policy's namespace and the peer; the namespace is empty where it does not matter."""

    @classmethod
    def of(cls, policies: Iterable[Policy]) -> Predicates:
        """Number what the policies ask."""
        known = tuple(policies)
        peers: dict[tuple[str, PodPeer | BlockPeer], int] = {}
        for policy in known:
            for rule in (*(policy.ingress or ()), *(policy.egress or ())):
                for peer in rule.peers or ():
                    peers.setdefault(peer_key(policy.namespace, peer), len(peers))
        return cls(known, peers)

    def targets(self, pod: Pod) -> int:
        """Return the policies that select a pod."""
        return sum(
            1 << index
            for index, policy in enumerate(self.policies)
            if policy.namespace == pod.namespace and policy.selector.matches(pod.labels)
        )

    def matches_labels(self, namespace: str, labels: Mapping[str, str], of_namespace: Mapping[str, str]) -> int:
        """Return the peers that labels in a namespace of given labels are."""
        found = 0
        for (own, peer), index in self.peers.items():
            if isinstance(peer, PodPeer):
                where = namespace == own if peer.namespaces is None else peer.namespaces.matches(of_namespace)
                if where and (peer.pods is None or peer.pods.matches(labels)):
                    found |= 1 << index
        return found

    def matches_addresses(self, addresses: Iterable[str]) -> int:
        """Return the ipBlocks in which any of the addresses lies."""
        known = tuple(addresses)
        return sum(
            1 << index
            for (_, peer), index in self.peers.items()
            if isinstance(peer, BlockPeer) and any(address in peer.addresses for address in known)
        )

    def matches_range(self, piece: Range) -> int:
        """Return the ipBlocks in which a piece of the outside lies."""
        return sum(
            1 << index
            for (_, peer), index in self.peers.items()
            if isinstance(peer, BlockPeer) and piece.within(peer.addresses)
        )


def peer_key(namespace: str, peer: PodPeer | BlockPeer) -> tuple[str, PodPeer | BlockPeer]:
    """Return what tells peers apart: with a namespace selector, the policy's own namespace does not."""
    return (namespace if isinstance(peer, PodPeer) and peer.namespaces is None else "", peer)


def named_ports(pod: Pod) -> tuple[tuple[str, str, int], ...]:
    """Return name, protocol and number of a pod's named container ports, the first of each name and protocol."""
    found: dict[tuple[str, str], int] = {}
    for port in pod.ports:
        if port.name is not None:
            found.setdefault((port.name, port.protocol), port.number)
    return tuple((name, protocol, number) for (name, protocol), number in sorted(found.items()))


def parties_of(
    cluster: Cluster, predicates: Predicates, *, host_network_is_node: bool, match_pod_addresses: bool
) -> list[Party]:
    """Return the cluster's workloads as parties, in order of name."""
    matched: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
    grouped: dict[tuple[str, tuple[str, str]], dict[tuple[object, ...], list[Pod]]] = defaultdict(dict)
    separates_nodes = host_network_is_node and any(pod.is_on_host_network and pod.node for pod in cluster.pods)
    for pod in cluster.pods:
        is_node = host_network_is_node and pod.is_on_host_network
        key = (pod.namespace, tuple(sorted(pod.labels.items())))
        if key not in matched:
            matched[key] = predicates.matches_labels(
                pod.namespace, pod.labels, cluster.namespaces.get(pod.namespace, {})
            )
        matches = 0 if is_node else matched[key]
        if is_node and pod.node_address:
            matches = predicates.matches_addresses([pod.node_address])
        elif match_pod_addresses:
            matches |= predicates.matches_addresses(pod.addresses)
        targets = 0 if is_node else predicates.targets(pod)
        alike = (targets, matches, is_node, named_ports(pod), pod.node if separates_nodes else None)
        grouped[pod.namespace, pod.owner or (pod.name, "Pod")].setdefault(alike, []).append(pod)
    return sorted(_named(grouped), key=lambda party: party.name)


def blocks_of(policies: Iterable[Policy], direction: str) -> set[AddressSet]:
    """Return the ipBlocks that rules of one direction name."""
    rules = [rule for policy in policies for rule in policy.rules(direction) or ()]
    return {peer.addresses for rule in rules for peer in rule.peers or () if isinstance(peer, BlockPeer)}


def outside_of(predicates: Predicates, blocks: Iterable[AddressSet]) -> list[Party]:
    """Return the pieces of the space outside that blocks tell apart; IPv6 where one of them is of it."""
    known = set(blocks)
    return [
        Party(name=f"{piece}[External]", outside=piece, is_policed=False, matches=predicates.matches_range(piece))
        for piece in pieces(known, {4} | {block.version for block in known})
    ]


def controller(predicates: Predicates) -> Party:
    """Return an ingress controller of which nothing is known: no labels, in a namespace without any."""
    return Party(name=CONTROLLER, is_controller=True, is_policed=False, matches=predicates.matches_labels("", {}, {}))


def selected(parties: Iterable[Party], namespace: str, selector: Selector) -> list[Party]:
    """Return the parties that have a pod of a namespace which a selector matches."""
    return [
        party
        for party in parties
        if party.namespace == namespace and any(selector.matches(pod.labels) for pod in party.pods)
    ]


def _named(
    grouped: Mapping[tuple[str, tuple[str, str]], Mapping[tuple[object, ...], list[Pod]]],
) -> Iterable[Party]:
    for (namespace, (owner, kind)), variants in grouped.items():
        for (targets, matches, is_node, *_), pods in variants.items():
            name = f"{namespace}/{owner}[{kind}]"
            if len(variants) > 1:
                name = f"{namespace}/{','.join(sorted(pod.name for pod in pods))}[Pod]"
            yield Party(
                name=name,
                pods=tuple(pods),
                is_policed=not is_node,
                targets=int(str(targets)),
                matches=int(str(matches)),
            )
