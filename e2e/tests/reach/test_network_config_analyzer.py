"""Reachability against network-config-analyzer, an independent one, on generated clusters (tox -e oracle)."""

import json
import os
import re
import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2e.reach.parsing import Manifest, cluster_of
from e2e.reach.parties import Party
from e2e.reach.ports import ALL, NONE, PROTOCOLS, PortSet
from e2e.reach.reachability import Reach

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(1500)]
LINE = re.compile(r"(?P<source>\S+) => (?P<destination>\S+) : (?P<what>.+)")
WHAT = re.compile(r"\{protocols:(?P<protocols>[A-Z, ]+?)(?:, ?dst_ports:(?P<ports>[\d,-]+))?\}")
NUM_SETS = 500


KEYS, VALUES = ("app", "tier"), ("a", "b", "c")
CIDRS = {
    "0.0.0.0/0": ("10.0.0.0/8", "192.168.0.0/16"),
    "10.0.0.0/8": ("10.1.0.0/16", "10.1.2.0/24", "10.128.0.0/9"),
    "10.1.0.0/16": ("10.1.2.0/24",),
    "192.168.1.0/24": ("192.168.1.0/28", "192.168.1.7/32"),
    "172.16.0.1/32": (),
}
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


@pytest.fixture(scope="module")
def oracle():
    python = os.environ.get("WINDTUNNEL_NCA_PYTHON")
    if python is None:
        pytest.skip("WINDTUNNEL_NCA_PYTHON names no interpreter that has network-config-analyzer")
    driver = Path(__file__).with_name("nca_driver.py")
    with subprocess.Popen(
        [python, driver], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        yield process
        process.stdin.close()


def test_five_hundred_generated_clusters_have_the_same_connections(oracle, tmp_path):
    folder = tmp_path / "cluster"
    folder.mkdir()
    num_compared = 0

    @settings(
        max_examples=NUM_SETS, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(clusters())
    def compare(manifests):
        nonlocal num_compared
        (folder / "all.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": _stored(manifests)}))
        reach = Reach.of(cluster_of([Manifest(one, "generated") for one in manifests]))
        theirs = _ask(oracle, folder)
        for source in (*reach.workloads, *reach.sources_outside):
            for destination in (*reach.workloads, *reach.destinations_outside):
                if source is not destination and (source.pods or destination.pods):
                    ours = reach.between(source, destination)
                    assert ours == _of(theirs, source, destination), f"{source} => {destination}"
        num_compared += 1

    compare()
    print(f"{num_compared} clusters compared", file=sys.stderr)
    assert num_compared >= NUM_SETS


def _stored(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return manifests without the sections that have no effect, by which network-config-analyzer goes all the same.

    The API reference on policyTypes: "List of rule types that the NetworkPolicy relates to", so that a section of
    another type has no say; and "If this field is not specified, it will default based on the existence of ingress or
    egress rules", which an empty list has none of: the API server keeps [Ingress]. We are handed the manifests as they
    are.
    """
    found = json.loads(json.dumps(manifests))
    for one in found:
        spec = one["spec"] if one["kind"] == "NetworkPolicy" else {}
        types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
        for section in {"ingress", "egress"} - {kind.lower() for kind in types}:
            spec.pop(section, None)
    return found


def _ask(oracle, folder: Path) -> list[tuple[str, str, PortSet]]:
    oracle.stdin.write(f"{folder}\n")
    oracle.stdin.flush()
    answer = json.loads(oracle.stdout.readline())
    assert "rror" not in answer["complaints"], answer
    found = [LINE.fullmatch(line) for line in answer["said"].splitlines() if "=>" in line]
    assert all(found), answer["said"]
    return [(one["source"], one["destination"], _what(one["what"])) for one in found]


def _what(text: str) -> PortSet:
    if text == "All connections":
        return ALL
    found = WHAT.fullmatch(text)
    assert found, text
    sets = []
    for protocol in found["protocols"].replace(" ", "").split(","):
        assert protocol in PROTOCOLS
        for part in (found["ports"] or "1-65535").split(","):
            first, _, last = part.partition("-")
            sets.append(PortSet.of(protocol, int(first), int(last or first)))
    return PortSet.union(sets)


def _of(theirs: list[tuple[str, str, PortSet]], source: Party, destination: Party) -> PortSet:
    said = [ports for one, other, ports in theirs if _is(one, source) and _is(other, destination)]
    return PortSet.union(said) if said else NONE


def _is(text: str, party: Party) -> bool:
    if party.pods:
        return text == f"{party.pods[0].namespace}/{party.pods[0].name}"
    first, dash, last = text.partition("-")
    if not dash or "/" in text:
        return False
    return int(IPv4Address(first)) <= party.outside.first and party.outside.last <= int(IPv4Address(last))
