"""Reachability against network-config-analyzer, an independent one, on generated clusters (tox -e oracle)."""

import json
import os
import re
import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from e2e.reach.parsing import Manifest, cluster_of
from e2e.reach.parties import Party
from e2e.reach.ports import ALL, NONE, PROTOCOLS, PortSet
from e2e.reach.reachability import Reach
from e2e.tests.reach.generated_policies import clusters

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(1500)]
LINE = re.compile(r"(?P<source>\S+) => (?P<destination>\S+) : (?P<what>.+)")
WHAT = re.compile(r"\{protocols:(?P<protocols>[A-Z,]+?)(?:,dst_ports:(?P<ports>[\d,-]+))?\}")
NUM_SETS = 500


@pytest.fixture(scope="module")
def oracle():
    python = os.environ.get("WINDTUNNEL_NCA_PYTHON")
    if python is None:
        pytest.skip("WINDTUNNEL_NCA_PYTHON names no interpreter that has network-config-analyzer")
    driver = Path(__file__).with_name("nca_driver.py")
    with subprocess.Popen([python, driver], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
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
        (folder / "all.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))
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
    for protocol in found["protocols"].split(","):
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
