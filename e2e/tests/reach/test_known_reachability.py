"""Nineteen manifest sets whose connections an independent analyser computed (data/README.md)."""

from pathlib import Path

import pytest

from e2e.cli import run

DATA = Path(__file__).parent / "data"
CORE = tuple(DATA / "with_end_port_example_new" / name for name in ("pods_list.yaml", "ns_list.yaml"))
BANK = (DATA / "multiple_topology_resources_2" / "bank_pod_list_yaml_version.yml",)
ELSEWHERE = {
    "multiple_topology_resources_2": CORE,
    "semanticDiff-different-topologies-policy-a": (DATA / "pods_of_different_topologies" / "a.yaml",),
    "semanticDiff-different-topologies-policy-b": (DATA / "pods_of_different_topologies" / "b.yaml",),
    "semanticDiff-orig-topologies-policy-a": CORE,
    "semanticDiff-same-topologies-new1a": BANK,
    "semanticDiff-same-topologies-new3": BANK,
    "semanticDiff-same-topologies-old2": BANK,
    "test_with_named_ports": CORE,
    "test_with_named_ports_changed_netpol_2": CORE,
}
"""The pods of sets that hold policies only."""
CASES = sorted(path.parent.name for path in DATA.glob("*/expected.txt"))


def test_all_nineteen_sets_are_there():
    assert len(CASES) == 19


@pytest.mark.parametrize("case", CASES)
def test_every_line_is_as_the_other_analyser_has_it(case, capsys):
    code = run(["reach", str(DATA / case), *map(str, ELSEWHERE.get(case, ())), "--format", "connlist"])
    wanted = [line for line in (DATA / case / "expected.txt").read_text().splitlines() if line.strip()]
    assert code == 0
    assert capsys.readouterr().out.splitlines() == sorted(wanted)
