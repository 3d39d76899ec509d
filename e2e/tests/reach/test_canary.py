"""The canaries: a network that enforces nothing, or does not work at all, is told before anything else is believed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from e2e.reach.measure import canary
from e2e.reach.measure.probing import Source, Target

KUBECTL = """\
import json, pathlib, sys
log = pathlib.Path(sys.argv[1])
words = sys.argv[2:]
log.write_text((log.read_text() if log.exists() else "") + " ".join(words[:3]) + "\\n")
given = "" if sys.stdin.isatty() or words[0] != "apply" else sys.stdin.read()
store = log.with_suffix(".json")
if words[0] == "apply":
    store.write_text(json.dumps(json.loads(store.read_text() if store.exists() else "[]") + json.loads(given)["items"]))
elif words[:2] == ["get", "pods"]:
    pods = [one for one in json.loads(store.read_text()) if one["kind"] == "Pod"]
    for number, pod in enumerate(pods, 5):
        pod["spec"]["nodeName"] = "node"
        state = {"containerID": f"containerd://c{number}", "state": {"running": {}}}
        pod["status"] = {"podIP": f"10.0.0.{number}", "containerStatuses": [state]}
    print(json.dumps({"items": pods}))
"""
OPEN = ("connected", "answered", "refused")


class Network:
    """Answers probes: as an open network until a policy has been applied, then as it is said to."""

    def __init__(self, store: Path, then: Sequence[str], at_first: Sequence[str] = OPEN) -> None:
        self.store, self.then, self.at_first = store, then, at_first

    def probe(self, wanted: Mapping[Source, Sequence[Target]]) -> dict[tuple[Source, Target], str]:
        is_denied = any(one["kind"] == "NetworkPolicy" for one in json.loads(self.store.read_text()))
        outcomes = self.then if is_denied else self.at_first
        return {
            (source, target): outcome
            for source, targets in wanted.items()
            for target, outcome in zip(targets, outcomes, strict=True)
        }


@pytest.mark.parametrize(
    ("then", "trouble"),
    [
        (("silent", "silent", "silent"), ""),
        (OPEN, "this cluster's network does not enforce policies"),
        (("silent", "answered", "silent"), "this cluster's network does not enforce policies"),
        (("silent", "silent", "refused"), "a refusal cannot be told from an open way"),
    ],
)
def test_what_a_network_does_with_a_denied_connection_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: Sequence[str], trouble: str
) -> None:
    monkeypatch.setattr(canary, "CANARY_SECONDS", 0.1)
    (tmp_path / "kubectl.py").write_text(KUBECTL)
    kubectl = [sys.executable, str(tmp_path / "kubectl.py"), str(tmp_path / "log.txt")]

    found = canary.fly_canary(kubectl, Network(tmp_path / "log.json", then))

    assert (found.trouble == "") == (trouble == "")
    assert trouble in found.trouble
    # whatever it saw, nothing of it is left
    assert (tmp_path / "log.txt").read_text().splitlines()[-1].startswith("delete namespace")


def test_a_network_that_does_not_work_is_not_called_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "CANARY_SECONDS", 0.1)
    (tmp_path / "kubectl.py").write_text(KUBECTL)
    kubectl = [sys.executable, str(tmp_path / "kubectl.py"), str(tmp_path / "log.txt")]
    nothing = ("silent", "silent", "silent")

    found = canary.fly_canary(kubectl, Network(tmp_path / "log.json", nothing, at_first=nothing))

    assert "the network does not work" in found.trouble
