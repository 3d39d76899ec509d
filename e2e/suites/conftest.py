"""One cluster for all suites of a run: made or taken as it is, looked into when something failed, then taken down."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.ascent import stages_of
from e2e.cluster.diagnostics import bundle
from e2e.cluster.nodes import Nodes
from e2e.cluster.place import NAMESPACE, Place
from e2e.cluster.stack import FrontDoor, require_door
from e2e.cluster.stages import run
from e2e.components import read_components
from e2e.suites.traffic import Traffic, picture

Kubectl = Callable[..., str]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("windtunnel")
    group.addoption("--cluster", default="windtunnel-suites", help="the kind cluster's name")
    group.addoption("--kubeconfig", default=os.environ.get("WINDTUNNEL_KUBECONFIG"), help="an existing cluster instead")
    group.addoption(
        "--components", default=os.environ.get("WINDTUNNEL_COMPONENTS"), help="other versions of components"
    )
    group.addoption(
        "--keep", choices=("never", "failed", "always"), default="never", help="keep the cluster afterwards"
    )
    group.addoption("--reuse", action="store_true", help="take the cluster as it is, and keep it")
    group.addoption("--enumeration", default=23, type=int, help="of the 230 policy cases, every Nth; 1: all of them")
    group.addoption("--findings", default="runs/suites", help="where bundle, timeline and figures go")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.kind)
        item.add_marker(pytest.mark.timeout(900))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    stats = terminalreporter.stats
    ran = sum(len(stats.get(kind, ())) for kind in ("passed", "failed", "error"))
    planned = ran + len(stats.get("skipped", ()))
    terminalreporter.write_line(f"ran {ran} of {planned} planned")
    for line in config.stash.get(FIGURES, []):
        terminalreporter.write_line(f"  {line}")


FIGURES: pytest.StashKey[list[str]] = pytest.StashKey()
FLIGHTS: pytest.StashKey[list[tuple[str, Traffic]]] = pytest.StashKey()


@pytest.fixture(scope="session")
def findings(pytestconfig: pytest.Config) -> Path:
    """Where what a run leaves behind goes."""
    path = Path(pytestconfig.getoption("--findings"))
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="session")
def figure(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Note a measured figure: it is shown at the end of the run."""
    return pytestconfig.stash.setdefault(FIGURES, []).append


@pytest.fixture(scope="session")
def place(pytestconfig: pytest.Config, request: pytest.FixtureRequest, findings: Path, figure: Any) -> Iterator[Place]:
    """The cluster, with the stack on it."""
    option = pytestconfig.getoption
    given = Path(option("--kubeconfig")) if option("--kubeconfig") else None
    place = Place.of(option("--cluster"), given)
    components = read_components(Path(option("--components")) if option("--components") else None)
    nodes = Nodes(place, f"kindest/node:{components['kubernetes'].version}")
    began = time.monotonic()
    try:
        for done in run(stages_of(place, nodes, components, fresh=not (option("--reuse") or given))):
            figure(f"{done.name}: {done.seconds:.0f} s, {done.told}")
        figure(f"first token after {time.monotonic() - began:.0f} s")
        yield place
    finally:
        failed = request.session.testsfailed > 0
        if failed:
            figure(
                f"diagnostics: {findings / 'cluster.tar.gz'}, {len(bundle(place, findings / 'cluster.tar.gz'))} files"
            )
        flights = pytestconfig.stash.get(FLIGHTS, [])
        if flights:
            (findings / "timeline.svg").write_text(picture(flights))
            figure(f"timeline: {findings / 'timeline.svg'}")
        keep = option("--keep")
        if given is None and not option("--reuse") and not (keep == "always" or (keep == "failed" and failed)):
            nodes.delete()


@pytest.fixture(scope="session")
def door(place: Place) -> FrontDoor:
    """The way in from outside."""
    return require_door(place)


@pytest.fixture(scope="session")
def kubectl(place: Place) -> Kubectl:
    """Run kubectl in the stack's namespace; returns what it printed."""

    def run_it(*words: str, seconds: float = 120, given: str | None = None, namespace: str = NAMESPACE) -> str:
        return place.programs.must("kubectl", "-n", namespace, *words, seconds=seconds, given=given)

    return run_it


@pytest.fixture
def flown(pytestconfig: pytest.Config, request: pytest.FixtureRequest, figure: Any) -> Callable[[Traffic], None]:
    """Keep a test's traffic for the timeline."""

    def keep(traffic: Traffic) -> None:
        name = request.node.name.removeprefix("test_").replace("_", " ")
        pytestconfig.stash.setdefault(FLIGHTS, []).append((name[:44], traffic))
        figure(f"{name}: {traffic}")

    return keep


@pytest.fixture(scope="session")
def settled(kubectl: Kubectl) -> Callable[[], None]:
    """Wait until every workload of the stack, and its front door, is whole again."""

    def wait() -> None:
        deadline = time.monotonic() + 180
        while True:
            lacking = [
                one["metadata"]["name"]
                for namespace in (NAMESPACE, "ingress-nginx")
                for one in json.loads(kubectl("get", "deployments", "-o", "json", namespace=namespace))["items"]
                if one["status"].get("availableReplicas", 0) < one["spec"]["replicas"]
                or one["status"].get("updatedReplicas", 0) < one["spec"]["replicas"]
                or one["status"].get("replicas", 0) != one["spec"]["replicas"]
            ]
            if not lacking:
                return
            assert time.monotonic() < deadline, f"not whole again after 180 s: {lacking}"
            time.sleep(1)

    return wait
