"""Why a connection passes or does not: the policies of each direction, and what each says of it.

Also how a user's words name a party: `namespace/name`, a bare name, an address outside, a service. Start at `explain`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_address

from e2e.reach.objects import Service, ServicePort
from e2e.reach.parties import CONTROLLER, Party
from e2e.reach.ports import PROTOCOLS
from e2e.reach.reachability import CompiledRule, Reach, is_beyond_policy
from sim.experiment.errors import InputError

Port = tuple[str, int]
ASKED = re.compile(r"(?P<who>.+?):(?:(?P<first>[A-Za-z]+)[ /])?(?P<port>[^:/ ]+?)(?:/(?P<last>[A-Za-z]+))?")


@dataclass(frozen=True, slots=True)
class Direction:
    """What one side's policies say: the rules that open the port, and the isolating policies that do not."""

    name: str
    subject: Party
    is_isolated: bool
    opened_by: tuple[str, ...]
    not_opened_by: tuple[str, ...]

    @property
    def is_open(self) -> bool:
        """Say whether this direction lets the connection pass."""
        return not self.is_isolated or bool(self.opened_by)

    def __str__(self) -> str:
        who = f"{self.name} of {self.subject}"
        if not self.subject.is_policed:
            return f"{who}: no policy can select it: allowed"
        if not self.is_isolated:
            return f"{who}: no policy isolates it: allowed"
        if self.opened_by:
            return f"{who}: allowed by {'; '.join(self.opened_by)}"
        return f"{who}: denied, isolated by {', '.join(self.not_opened_by)} and opened by no rule"


@dataclass(frozen=True, slots=True)
class Explanation:
    """One connection's verdict and both directions' reasons."""

    source: Party
    destination: Party
    port: Port
    passes: bool
    directions: tuple[Direction, ...]

    def __str__(self) -> str:
        verdict = "passes" if self.passes else "does not pass"
        head = f"{self.source} => {self.destination} {self.port[0]} {self.port[1]}: {verdict}"
        if not self.directions:
            return f"{head}\n  a pod reaches itself, and its own node reaches it, whatever policies say"
        return "\n".join([head, *(f"  {one}" for one in self.directions)])


def explain(reach: Reach, source: Party, destination: Party, port: Port) -> Explanation:
    """Say which policies let a connection pass or keep it from passing, per direction."""
    passes = port in reach.between(source, destination)
    if is_beyond_policy(source, destination):
        return Explanation(source, destination, port, passes, ())
    pairs = (("egress", source, destination), ("ingress", destination, source))
    directions = tuple(_direction(reach, name, subject, other, destination, port) for name, subject, other in pairs)
    return Explanation(source, destination, port, passes, directions)


def deciding(reach: Reach, direction: str, subject: Party, other: Party, destination: Party) -> str:
    """Say in a few words who decides one direction of a pair, over all ports."""
    isolating = reach.isolating(direction, subject)
    if not isolating:
        return "no policy isolates"
    opened = [
        f"{_place(one, direction)} opens {ports}"
        for one in reach.rules(direction, subject)
        if one.speaks_of(other) and (ports := reach.ports_of(one.rule, destination.named_ports))
    ]
    return "; ".join(opened) or "denied by " + ", ".join(str(policy) for policy in isolating)


def find_party(reach: Reach, words: str, side: str) -> Party:
    """Return the party a user names: its name, with or without kind or namespace, or an address outside.

    Raises:
        InputError: nobody, or more than one, is called so.
    """
    outside = reach.sources_outside if side == "source" else reach.destinations_outside
    known = (*reach.workloads, *outside, *([reach.controller] if side == "source" else []))
    if (number := _address(words)) is not None:
        owners = [one for one in reach.workloads for pod in one.pods if words in pod.addresses]
        version, value = number
        ranges = [p for p in outside if p.outside and p.outside.version == version]
        found = owners or [p for p in ranges if p.outside and p.outside.first <= value <= p.outside.last]
    else:
        found = [party for party in known if words in _names(party)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{words!r} names {len(found)} parties: {', '.join(str(one) for one in found[:6])}")
    close = get_close_matches(words, [name for party in known for name in _names(party)], 3, 0.5)
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    raise InputError(f"nobody is called {words!r}: expected namespace/name or an IP address{hint}")


def asked(reach: Reach, words: str) -> list[tuple[Party, Port]]:
    """Return the destinations and ports that `B:PORT` means; a service's stand for the pods behind it.

    PORT is a number or a container's (service's) name for it, with /UDP or /SCTP where it is not TCP.

    Raises:
        InputError: it cannot be read, or B or its port is not there.
    """
    found = ASKED.fullmatch(words)
    protocol = ((found["first"] or found["last"] or "TCP") if found else "").upper()
    if not found or protocol not in PROTOCOLS:
        raise InputError(f"{words!r}: expected DESTINATION:PORT or DESTINATION:PORT/PROTOCOL, such as llm/router:8080")
    for service in reach.cluster.services:
        if found["who"] in (f"service/{service.namespace}/{service.name}", f"service/{service.name}"):
            return _behind(reach, service, found["port"], protocol)
    destination = find_party(reach, found["who"], "destination")
    return [(destination, (protocol, _number(destination, found["port"], protocol)))]


def _behind(reach: Reach, service: Service, port: str, protocol: str) -> list[tuple[Party, Port]]:
    ports = [p for p in service.ports if port in (str(p.number), p.name) and p.protocol == protocol]
    if not ports:
        offered = ", ".join(f"{one.number}/{one.protocol}" for one in service.ports)
        raise InputError(f"service {service.namespace}/{service.name} has no port {port}/{protocol}: it has {offered}")
    return [pair for one in ports for pair in _targets(reach, service, one)]


def _targets(reach: Reach, service: Service, port: ServicePort) -> Iterable[tuple[Party, Port]]:
    for party, opened in reach.behind(service, port.number):
        for name, row in zip(PROTOCOLS, opened.rows, strict=True):
            if name == port.protocol:
                yield from ((party, (name, first)) for first, _ in row)


def _number(party: Party, port: str, protocol: str) -> int:
    if port.isdigit() and 1 <= int(port) <= 65535:
        return int(port)
    numbers = [number for name, kind, number in party.named_ports if (name, kind) == (port, protocol)]
    if not numbers:
        names = ", ".join(f"{name}/{kind}" for name, kind, _ in party.named_ports) or "none"
        raise InputError(
            f"{party}: expected a port from 1 to 65535 or a container's name for one ({names}), found {port!r}"
        )
    return numbers[0]


def _direction(reach: Reach, name: str, subject: Party, other: Party, destination: Party, port: Port) -> Direction:
    isolating = [str(policy) for policy in reach.isolating(name, subject)]
    opened: dict[str, str] = {}
    for one in reach.rules(name, subject):
        if one.speaks_of(other) and port in reach.ports_of(one.rule, destination.named_ports):
            opened.setdefault(str(one.policy), _place(one, name))
    closed = tuple(policy for policy in isolating if policy not in opened)
    return Direction(name, subject, bool(isolating), tuple(opened.values()), closed)


def _place(one: CompiledRule, direction: str) -> str:
    return f"{one.policy} {direction}[{one.index}]"


def _names(party: Party) -> set[str]:
    if not party.pods:
        return {party.name, "outside"} if party.outside else {CONTROLLER, CONTROLLER.strip("{}")}
    plain = party.name.rpartition("[")[0]
    return {party.name, plain, plain.partition("/")[2], *(f"{pod.namespace}/{pod.name}" for pod in party.pods)}


def _address(words: str) -> tuple[int, int] | None:
    try:
        address = ip_address(words)
    except ValueError:
        return None
    return address.version, int(address)
