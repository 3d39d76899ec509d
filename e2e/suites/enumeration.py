"""Every combination of a NetworkPolicy's parts that is worth trying on a network: 230 cases, as Cyclonus counts them.

After Cyclonus (github.com/mattfenwick/cyclonus): three namespaces x, y, z of three pods a, b, c; one policy on pod a of
x, of which one part at a time is varied: whom it targets, its rules, peers, ports and protocols; then policies that
contradict each other, what is changed under a running network, and the cases of Kubernetes' own e2e suite. The port
ranges are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from e2e.suites.policies import (
    DNS,
    EMPTY,
    EVERY_ADDRESS,
    EVERY_POD,
    NAMESPACES,
    NO_ADDRESS,
    NO_POD,
    Case,
    Change,
    Policy,
    Rules,
    Step,
    among,
    base,
    labelled,
    policy,
    port,
    put,
    varied,
)


def cases(address: str) -> list[Case]:
    """Return all 230. `address`: the IPv4 address of a pod, around which blocks are laid."""
    made = [
        *_targets(),
        *_rules(),
        *_peers(address),
        *_ports(),
        *_actions(),
        *_conflicts(),
        *_namespaces(),
        *_upstream(),
        _example(),
    ]
    return [Case(group, name, steps) for group, name, steps in made]


Made = tuple[str, str, tuple[Step, ...]]


def _one(group: str, name: str, *given: Policy) -> Made:
    return group, name, (tuple(put(one) for one in given),)


def _targets() -> Iterator[Made]:
    for namespace in NAMESPACES:
        yield _one("target", f"namespace {namespace}", base(namespace=namespace))
    for name, selector in (("every pod", EMPTY), ("a", labelled(pod="a")), ("a or b", among("pod", "a", "b"))):
        yield _one("target", name, base(selector=selector))


def _rules() -> Iterator[Made]:
    for direction in ("egress", "ingress"):
        yield _one("rules", f"{direction}: none", base(**{direction: []}))
        yield _one("rules", f"{direction}: all", base(**{direction: [{}]}))


def _peers(address: str) -> Iterator[Made]:
    pods = {"every pod": EMPTY, "pod c": labelled(pod="c"), "": None}
    spaces = {"": None, "every namespace": EMPTY, "namespace x": labelled(ns="x")}
    peers: dict[str, dict[str, Any]] = {}
    for space, of in spaces.items():
        for name, pod in pods.items():
            peer = {"podSelector": pod, "namespaceSelector": of}
            chosen = {key: selector for key, selector in peer.items() if selector is not None}
            if chosen:
                peers[" of ".join(filter(None, (name, space)))] = chosen
    numbers = address.split(".")
    wide = ".".join([*numbers[:3], "0"]) + "/24"
    narrow = ".".join([*numbers[:3], str(int(numbers[3]) & ~15)]) + "/28"
    peers["a block"] = {"ipBlock": {"cidr": wide}}
    peers["a block with a hole"] = {"ipBlock": {"cidr": wide, "except": [narrow]}}
    for direction in ("ingress", "egress"):
        yield _one("peers", f"{direction}: anybody", varied(direction, to=[]))
        for name, peer in peers.items():
            yield _one("peers", f"{direction}: {name}", varied(direction, to=[peer]))
        for one, other in combinations(peers, 2):
            yield _one("peers", f"{direction}: {one}; {other}", varied(direction, to=[peers[one], peers[other]]))


def _ports() -> Iterator[Made]:
    single = [port(protocol, number) for protocol in (None, "TCP", "UDP", "SCTP") for number in (None, 80, 81)]
    single += [port(one, f"serve-{number}-{one.lower()}") for one in ("TCP", "UDP", "SCTP") for number in (80, 81)]
    strange = [port("TCP", "serve-81-udp"), port("TCP", "serve-7981-udp"), port("TCP", 7981)]
    ranges = [port("TCP", 80, 81), port("TCP", 80, 80), port("TCP", 81, 90), port("TCP", 82, 90), port("UDP", 80, 81)]
    ranges.append(port("SCTP", 80, 81))
    pairs = [
        [port(), port(None, 80)],
        [port(), port(None, "serve-80-tcp")],
        [port(), port("UDP")],
        [port(None, 80), port(None, 81)],
        [port(None, 80), port(None, "serve-81-tcp")],
        [port(None, 80), port("UDP", "serve-81-udp")],
        [port("UDP", 80), port("UDP", "serve-81-udp")],
    ]
    for direction in ("egress", "ingress"):
        for given in ([], *([one] for one in (*single, *strange, *ranges)), *pairs):
            name = ", ".join(" ".join(map(str, one.values())) or "any" for one in given) or "none named"
            yield _one("ports", f"{direction}: {name}", varied(direction, ports=given))


def _actions() -> Iterator[Made]:
    by_label = {"namespaceSelector": labelled(**{"new-ns": "qrs"})}
    by_pod = {"podSelector": labelled(**{"new-label": "abc"}), "namespaceSelector": among("ns", "y", "z")}
    new_port = varied("ingress", ports=[port("UDP", "serve-81-udp")])
    yield "action", "a policy comes and goes", ((put(base()),), (Change("forget", "x", "base"),))
    yield "action", "a policy is changed", ((put(base()),), (put(new_port),))
    more = (Change("namespace", "y-2", given={"ns": "y"}), *(Change("pod", "y-2", one, {"pod": one}) for one in "ab"))
    yield "action", "a namespace comes and goes", ((put(base()),), more, (Change("no namespace", "y-2"),))
    labels = [Change("label namespace", "y", given={"new-ns": word}) for word in ("qrs", None)]
    yield "action", "a namespace is labelled", ((put(varied("ingress", to=[by_label])),), *((one,) for one in labels))
    pod = (Change("pod", "x", "d", {"pod": "d"}),)
    yield "action", "a pod comes and goes", ((put(base()),), pod, (Change("no pod", "x", "d"),))
    labels = [Change("label pod", "y", "b", {"new-label": word}) for word in ("abc", None)]
    yield "action", "a pod is labelled", ((put(varied("ingress", to=[by_pod])),), *((one,) for one in labels))


def _conflicts() -> Iterator[Made]:
    source, target = (
        {"namespace": "x", "selector": labelled(pod="b")},
        {"namespace": "y", "selector": labelled(pod="c")},
    )
    ways: dict[str, Rules] = {
        "nothing": [],
        "all": [{}],
        "every pod": EVERY_POD,
        "every address": EVERY_ADDRESS,
        "no address": NO_ADDRESS,
        "no pod": NO_POD,
    }
    dns = policy("dns", **source, egress=[DNS])
    for one, other in (("nothing", "all"), ("all", "nothing")):
        out, into = policy("out", **source, egress=ways[one]), policy("in", **target, ingress=ways[other])
        yield _one("conflict", f"out {one}, in {other}", out, into, dns)
    pairs = (("nothing", "all"), ("nothing", "every pod"), ("nothing", "every address"))
    pairs += (("no address", "every pod"), ("no pod", "every address"))
    for direction in ("egress", "ingress"):
        where = target if direction == "ingress" else source
        for one, other in pairs:
            both = [policy(f"p{number}", **where, **{direction: ways[way]}) for number, way in enumerate((one, other))]
            yield _one("conflict", f"{direction}: {one} and {other}", *both, *([dns] if direction == "egress" else []))
        for way in ("no address", "no pod"):
            yield _one("conflict", f"{direction}: {way}", policy("p", **source, **{direction: ways[way]}))


def _namespaces() -> Iterator[Made]:
    for direction in ("ingress", "egress"):
        peer = {"namespaceSelector": labelled(**{"kubernetes.io/metadata.name": "z"})}
        yield _one("namespace", f"{direction}: by the label that Kubernetes gives", varied(direction, to=[peer]))


def _upstream() -> Iterator[Made]:
    def one(name: str, *steps: tuple[Change, ...]) -> Made:
        return "upstream", name, steps

    def from_y(name: str, number: int) -> Policy:
        rule = {"to": [{"namespaceSelector": labelled(ns="y")}], "ports": [port("TCP", number)]}
        return policy(name, ingress=[rule])

    every: dict[str, Any] = {"selector": EMPTY}
    yield one("deny ingress", (put(policy("p", **every, ingress=[])),))
    yield one("deny all", (put(policy("p", **every, ingress=[], egress=[DNS])),))
    not_x = {"namespaceSelector": among("ns", "x", operator="NotIn"), "podSelector": among("pod", "b", "c")}
    yield one("pods and namespaces by expressions", (put(policy("p", ingress=[{"to": [not_x]}])),))
    yield one("stacked policies", (put(from_y("p81", 81)),), (), (put(from_y("p80", 80)),))
    yield one("allow all", (put(policy("p", **every, ingress=[{}])),), ())
    yield one("one named port", (put(policy("p", **every, ingress=[{"ports": [port(None, "serve-81-tcp")]}])),), ())
    yield one("a changed policy", *((put(policy("p", **every, ingress=rules)),) for rules in ([{}], [])))
    new_space = {"namespaceSelector": labelled(ns2="updated")}
    change = Change("label namespace", "y", given={"ns2": "updated"})
    yield one("a changed namespace", (put(policy("p", ingress=[{"to": [new_space]}])),), (change,))
    new_pod = {"podSelector": labelled(pod="b", pod2="updated")}
    change = Change("label pod", "x", "b", {"pod2": "updated"})
    yield one("a changed pod, let in", (put(policy("p", ingress=[{"to": [new_pod]}])),), (change,))
    change = Change("label pod", "x", "a", {"target": "isolated"})
    yield one(
        "a changed pod, shut off", (put(policy("p", selector=labelled(target="isolated"), ingress=[])),), (change,)
    )
    ways: dict[str, Rules] = {
        "ingress": [{"to": [{"podSelector": labelled(pod="b")}]}],
        "egress": [{"ports": [port(None, 80), port("UDP", 53)]}],
    }
    yield one("both directions", (put(policy("p", **ways)),), ())
    ya = {"namespaceSelector": labelled(ns="y"), "podSelector": labelled(pod="a")}
    xa = {"namespaceSelector": labelled(ns="x"), "podSelector": labelled(pod="a")}
    let_in = [policy(f"in-{name}", "y", labelled(pod=name), ingress=[{"to": [xa]}]) for name in ("a", "b")]
    yield one("the client's side decides, too", tuple(map(put, (policy("p", egress=[{"to": [ya]}, DNS]), *let_in))))
    shut = put(policy("p", **every, ingress=[], egress=[]))
    yield one("a policy that is gone", (shut,), (Change("forget", "x", "p"),))


def _example() -> Made:
    named = put(policy("p", selector=EMPTY, ingress=[{"ports": [port(None, "serve-81-tcp")]}]))
    more = (Change("namespace", "w", given={"ns": "w"}), Change("pod", "w", "a", {"pod": "a"}))
    gone = ((Change("no pod", "w", "a"),), (Change("no namespace", "w"),))
    return "example", "a namespace comes and goes around a named port", ((named,), more, *gone, (), ())


def counted(all_cases: list[Case]) -> dict[str, int]:
    """Return how many cases each group has."""
    found: dict[str, int] = {}
    for case in all_cases:
        found[case.group] = found.get(case.group, 0) + 1
    return found
