"""Who reaches whom on which port, by NetworkPolicy v1.

A connection passes when the source's egress and the destination's ingress both allow it. A direction that no policy
isolates allows everything; otherwise the union of the rules of every policy that isolates it. Sources: the API
reference and kubernetes.io "Network Policies". Start at `Reach.of`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from e2e.reach.addresses import AddressSet
from e2e.reach.objects import Cluster, Policy, PortRule, Rule, Service
from e2e.reach.parties import Party, Predicates, blocks_of, controller, outside_of, parties_of, peer_key, selected
from e2e.reach.ports import ALL, NONE, PortSet

DIRECTIONS = ("ingress", "egress")
NamedPorts = tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, slots=True)
class Connection:
    """What a source may use of a destination; never empty."""

    source: Party
    destination: Party
    ports: PortSet

    def __str__(self) -> str:
        return f"{self.source} => {self.destination} : {self.ports}"


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule as a mask over the numbered peers; None: anybody."""

    policy: Policy
    index: int
    rule: Rule
    mask: int | None

    def speaks_of(self, party: Party) -> bool:
        """Say whether the party is one of its peers."""
        return self.mask is None or bool(self.mask & party.matches)


@dataclass(slots=True)
class Reach:
    """A cluster's reachability; made once by `of`, then asked; answers are remembered by what distinguishes parties."""

    cluster: Cluster
    predicates: Predicates
    workloads: tuple[Party, ...]
    sources_outside: tuple[Party, ...]
    destinations_outside: tuple[Party, ...]
    controller: Party
    _compiled: dict[str, list[tuple[CompiledRule, ...] | None]] = field(default_factory=dict)
    _isolating: dict[str, int] = field(default_factory=dict)
    _remembered: dict[tuple[str, int, int, NamedPorts], PortSet] = field(default_factory=dict)
    _resolved: dict[tuple[tuple[PortRule, ...] | None, NamedPorts], PortSet] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        cluster: Cluster,
        *,
        host_network_is_node: bool = True,
        match_pod_addresses: bool = False,
        also_cut_at: Mapping[str, Iterable[AddressSet]] | None = None,
    ) -> Reach:
        """Prepare a cluster to be asked.

        Pods on their node's network count as the node, which no policy selects, unless `host_network_is_node` is false.
        Pods' own addresses are held against ipBlocks only with `match_pod_addresses` (a manifest has none to trust).
        `also_cut_at` has blocks by direction at which the space outside is cut besides those that policies name.
        """
        predicates = Predicates.of(cluster.policies)
        workloads = parties_of(
            cluster, predicates, host_network_is_node=host_network_is_node, match_pod_addresses=match_pod_addresses
        )
        outside = {
            way: tuple(outside_of(predicates, blocks_of(cluster.policies, way) | set((also_cut_at or {}).get(way, ()))))
            for way in DIRECTIONS
        }
        made = cls(cluster, predicates, tuple(workloads), outside["ingress"], outside["egress"], controller(predicates))
        for direction in DIRECTIONS:
            made._compile(direction)
        return made

    def between(self, source: Party, destination: Party) -> PortSet:
        """Return what a source may use of a destination; a pod always reaches itself."""
        if is_beyond_policy(source, destination):
            return ALL
        leaving = self.allowed("egress", source, destination, destination.named_ports)
        return leaving & self.allowed("ingress", destination, source, destination.named_ports) if leaving else NONE

    def between_pods(self, source: Party, destination: Party) -> PortSet:
        """Return what one pod of a party may use of another pod, be it of the same party."""
        leaving = self.allowed("egress", source, destination, destination.named_ports)
        return leaving & self.allowed("ingress", destination, source, destination.named_ports)

    def connections(self) -> Iterator[Connection]:
        """Yield what may be used between any two different parties, with what Ingress objects let in at the end."""
        for source in (*self.workloads, *self.sources_outside):
            others = self.workloads if source.outside else (*self.workloads, *self.destinations_outside)
            for destination in others:
                if source is not destination and (ports := self.between(source, destination)):
                    yield Connection(source, destination, ports)
        yield from self.let_in()

    def let_in(self) -> Iterator[Connection]:
        """Yield what an ingress controller that nothing is known of may use of the backends named to it."""
        wanted: dict[str, tuple[Party, list[PortSet]]] = {}
        for way in self.cluster.ways_in:
            for service in self.cluster.services:
                if (service.namespace, service.name) == (way.namespace, way.service):
                    for party, ports in self.behind(service, way.port):
                        wanted.setdefault(party.name, (party, []))[1].append(ports)
        for party, asked in wanted.values():
            if ports := PortSet.union(asked) & self.between(self.controller, party):
                yield Connection(self.controller, party, ports)

    def behind(self, service: Service, port: int | str | None = None) -> Iterator[tuple[Party, PortSet]]:
        """Yield the workloads behind a service (behind one of its ports, by number, name or target) and their ports."""
        for party in selected(self.workloads, service.namespace, service.selector):
            opened = [
                resolved(PortRule(one.protocol, one.target), party.named_ports)
                for one in service.ports
                if port is None or port in (one.number, one.name, one.target)
            ]
            if ports := PortSet.union(opened):
                yield party, ports

    def isolating(self, direction: str, party: Party) -> list[Policy]:
        """Return the policies that isolate a party in a direction."""
        bits = party.targets & self._isolating[direction]
        return [policy for index, policy in enumerate(self.predicates.policies) if bits >> index & 1]

    def rules(self, direction: str, party: Party) -> Iterator[CompiledRule]:
        """Yield the rules that hold for a party in a direction."""
        for index, rules in enumerate(self._compiled[direction]):
            if rules and party.targets >> index & 1:
                yield from rules

    def allowed(self, direction: str, subject: Party, other: Party, names: NamedPorts) -> PortSet:
        """Return what a subject's policies of one direction leave open with another; `names` are the destination's."""
        bits = subject.targets & self._isolating[direction]
        if not bits:
            return ALL
        key = (direction, bits, other.matches, names)
        if key not in self._remembered:
            opened = [self.ports_of(one.rule, names) for one in self.rules(direction, subject) if one.speaks_of(other)]
            self._remembered[key] = PortSet.union(opened)
        return self._remembered[key]

    def ports_of(self, rule: Rule, names: NamedPorts) -> PortSet:
        """Return what a rule opens of a destination with such named ports."""
        key = (rule.ports, names)
        if key not in self._resolved:
            self._resolved[key] = ALL if rule.ports is None else PortSet.union(resolved(p, names) for p in rule.ports)
        return self._resolved[key]

    def _compile(self, direction: str) -> None:
        compiled: list[tuple[CompiledRule, ...] | None] = []
        for policy in self.predicates.policies:
            rules = policy.rules(direction)
            compiled.append(None if rules is None else tuple(self._masked(policy, rules)))
        self._compiled[direction] = compiled
        self._isolating[direction] = sum(1 << index for index, rules in enumerate(compiled) if rules is not None)

    def _masked(self, policy: Policy, rules: Sequence[Rule]) -> Iterator[CompiledRule]:
        for index, rule in enumerate(rules):
            mask = None
            if rule.peers is not None:
                numbers = {self.predicates.peers[peer_key(policy.namespace, peer)] for peer in rule.peers}
                mask = sum(1 << number for number in numbers)
            yield CompiledRule(policy, index, rule, mask)


def resolved(port: PortRule, names: NamedPorts) -> PortSet:
    """Return the ports that one entry opens; a name that no container declares opens none."""
    if port.port is None:
        return PortSet.of(port.protocol)
    if isinstance(port.port, int):
        return PortSet.of(port.protocol, port.port, port.last or port.port)
    numbers = [number for name, protocol, number in names if (name, protocol) == (port.port, port.protocol)]
    return PortSet.union(PortSet.of(port.protocol, number, number) for number in numbers)


def is_beyond_policy(source: Party, destination: Party) -> bool:
    """Say whether traffic comes from the destination's own node, which nothing can forbid."""
    if not destination.pods or destination is source:
        return destination is source
    if source.pods and not source.is_policed and source.pods[0].node:
        return all(pod.node == source.pods[0].node for pod in destination.pods)
    if source.outside and source.outside.first == source.outside.last:
        address = str(source.outside).split("-")[0]
        return all(pod.node_address == address for pod in destination.pods)
    return False
