"""Hypothesis strategies: clusters with pods, and policies that use every field of networking.k8s.io/v1."""

from typing import Any

from hypothesis import strategies as st

KEYS, VALUES = ("app", "tier"), ("a", "b", "c")
CIDRS = {
    "0.0.0.0/0": ("10.0.0.0/8", "192.168.0.0/16"),
    "10.0.0.0/8": ("10.1.0.0/16", "10.1.2.0/24", "10.128.0.0/9"),
    "10.1.0.0/16": ("10.1.2.0/24",),
    "192.168.1.0/24": ("192.168.1.0/28", "192.168.1.7/32"),
    "172.16.0.1/32": (),
}
PROTOCOLS = ("TCP", "UDP", "SCTP")
PORT_NAMES = ("http", "dns", "admin")

labels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=2)
expressions = st.one_of(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(KEYS),
            "operator": st.sampled_from(("In", "NotIn")),
            "values": st.lists(st.sampled_from(VALUES), min_size=1, max_size=2, unique=True),
        }
    ),
    st.fixed_dictionaries({"key": st.sampled_from(KEYS), "operator": st.sampled_from(("Exists", "DoesNotExist"))}),
)
selectors = st.one_of(
    st.just({}),
    labels.map(lambda found: {"matchLabels": found}),
    st.lists(expressions, min_size=1, max_size=2).map(lambda found: {"matchExpressions": found}),
    st.builds(lambda one, two: {"matchLabels": one, "matchExpressions": [two]}, labels, expressions),
)


@st.composite
def blocks(draw: st.DrawFn) -> dict[str, Any]:
    cidr = draw(st.sampled_from(sorted(CIDRS)))
    holes = draw(st.lists(st.sampled_from(CIDRS[cidr]), unique=True)) if CIDRS[cidr] else []
    return {"ipBlock": {"cidr": cidr, **({"except": holes} if holes else {})}}


peers = st.one_of(
    selectors.map(lambda one: {"podSelector": one}),
    selectors.map(lambda one: {"namespaceSelector": one}),
    st.builds(lambda one, two: {"podSelector": one, "namespaceSelector": two}, selectors, selectors),
    blocks(),
)


@st.composite
def ports(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if draw(st.booleans()):
        found["protocol"] = draw(st.sampled_from(PROTOCOLS))
    match draw(st.sampled_from(("none", "number", "range", "name"))):
        case "number":
            found["port"] = draw(st.sampled_from((53, 80, 81, 8080)))
        case "range":
            found["port"] = draw(st.sampled_from((1, 79, 80, 8000)))
            found["endPort"] = found["port"] + draw(st.sampled_from((0, 1, 100)))
        case "name":
            found["port"] = draw(st.sampled_from(PORT_NAMES))
    return found


@st.composite
def rules(draw: st.DrawFn, side: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if draw(st.integers(0, 3)):
        found[side] = draw(st.lists(peers, max_size=3))
    if draw(st.booleans()):
        found["ports"] = draw(st.lists(ports(), max_size=3))
    return found


@st.composite
def policies(draw: st.DrawFn, name: str, namespace: str) -> dict[str, Any]:
    spec: dict[str, Any] = {"podSelector": draw(selectors)}
    types = draw(st.sampled_from(((), ("Ingress",), ("Egress",), ("Ingress", "Egress"))))
    if types:
        spec["policyTypes"] = list(types)
    if draw(st.booleans()):
        spec["ingress"] = draw(st.lists(rules("from"), max_size=3))
    if draw(st.booleans()):
        spec["egress"] = draw(st.lists(rules("to"), max_size=3))
    about = {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": about, "spec": spec}


@st.composite
def pods(draw: st.DrawFn, name: str, namespace: str) -> dict[str, Any]:
    named = draw(st.dictionaries(st.sampled_from(PORT_NAMES), st.sampled_from(PROTOCOLS), max_size=2))
    declared = [
        {"name": port, "protocol": protocol, "containerPort": draw(st.sampled_from((53, 80, 8080)))}
        for port, protocol in sorted(named.items())
    ]
    about = {"name": name, "namespace": namespace, "labels": draw(labels)}
    container = {"name": "main", "image": "none", "ports": declared}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": {"containers": [container]}}


@st.composite
def clusters(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Return one to three namespaces, two to six pods and one to five policies as manifests."""
    spaces = [f"ns{number}" for number in range(draw(st.integers(1, 3)))]
    found: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space, "labels": draw(labels)}}
        for space in spaces
    ]
    num_pods, num_policies = draw(st.integers(2, 6)), draw(st.integers(1, 5))
    found += [draw(pods(f"pod{number}", draw(st.sampled_from(spaces)))) for number in range(num_pods)]
    return found + [draw(policies(f"policy{number}", draw(st.sampled_from(spaces)))) for number in range(num_policies)]
