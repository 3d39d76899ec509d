"""Where the enumeration is flown: three namespaces of three pods, and a matrix after every step of a case."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from e2e.reach.measure.grounds import Grounds
from e2e.reach.measure.matrix import Measured, measure
from e2e.reach.measure.probing import NodeProber, sources_of
from e2e.reach.parsing import cluster_of
from e2e.reach.reachability import Reach
from e2e.reach.reading import objects_in
from e2e.suites.policies import PORTS, Case, Change, Policy

TRIED = tuple((protocol, number) for protocol in ("TCP", "UDP") for number in PORTS)
SETTLE_SECONDS = 15.0


@dataclass(slots=True)
class Field:
    """The grounds with what has been changed on them; `fly` leaves them as it found them."""

    grounds: Grounds
    prober: NodeProber = field(default_factory=NodeProber)
    policies: dict[tuple[str, str], Policy] = field(default_factory=dict)
    pods: list[dict[str, Any]] = field(default_factory=list)
    spaces: list[dict[str, Any]] = field(default_factory=list)
    _undo: list[Change] = field(default_factory=list)

    @property
    def address(self) -> str:
        """The address of pod c of z."""
        [pod] = [one for one in self.pods if (one["metadata"]["namespace"], one["metadata"]["name"]) == ("z", "c")]
        return str(pod["status"]["podIP"])

    def look(self) -> None:
        """Read pods and namespaces again."""
        self.pods = [one for one in self.grounds.told("pods") if "deletionTimestamp" not in one["metadata"]]
        told = json.loads(self.grounds.run("get", "namespaces", "--output", "json"))["items"]
        ours = set(self.grounds.made)
        self.spaces = [one for one in told if one["metadata"]["name"] in ours]

    def fly(self, case: Case) -> list[Measured]:
        """Do a case; return the matrix of each step. Afterwards everything is as it was before."""
        try:
            found = []
            for step in case.steps:
                self._do(step)
                found.append(self._measure())
            return found
        finally:
            self._forget([*self.policies])
            self._do(tuple(reversed(self._undo)))
            self._undo.clear()

    def _measure(self) -> Measured:
        objects = [*self.spaces, *self.pods, *self.policies.values()]
        document = json.loads(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        cluster = cluster_of(list(objects_in(document, "field")))
        reach = Reach.of(cluster, match_pod_addresses=True)
        sources = sources_of(self.pods)
        return measure(
            reach, sources, self.prober, ports=TRIED, settle_seconds=SETTLE_SECONDS, silent_udp_is_closed=True
        )

    def _do(self, changes: tuple[Change, ...]) -> None:
        applied = [change.given for change in changes if change.what == "apply"]
        self.grounds.apply(applied)
        for one in applied:
            self.policies[one["metadata"]["namespace"], one["metadata"]["name"]] = one
        self._forget([(change.namespace, change.name) for change in changes if change.what == "forget"])
        others = [change for change in changes if change.what not in ("apply", "forget")]
        for change in others:
            self._alter(change)
        if others:
            self.look()

    def _forget(self, names: list[tuple[str, str]]) -> None:
        if names:
            items = [self.policies.pop(name) for name in names]
            text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
            self.grounds.run("delete", "--filename", "-", "--ignore-not-found", text=text)

    def _alter(self, change: Change) -> None:
        grounds, where, name = self.grounds, change.namespace, change.name
        match change.what:
            case "namespace":
                grounds.add_namespace(where, change.given)
                self._undo.append(Change("no namespace", where))
            case "no namespace":
                grounds.remove_namespace(where)
            case "pod":
                grounds.apply([grounds.pod(where, name, change.given)])
                grounds.run("wait", "--namespace", where, "--for=condition=Ready", f"pod/{name}", "--timeout=120s")
                self._undo.append(Change("no pod", where, name))
            case "no pod":
                if where in grounds.made:
                    grounds.run("delete", "pod", name, "--namespace", where, "--ignore-not-found", "--wait=true")
            case "label namespace" | "label pod":
                what = ["namespace", where] if change.what == "label namespace" else ["pod", name, "--namespace", where]
                words = [f"{key}-" if value is None else f"{key}={value}" for key, value in change.given.items()]
                grounds.run("label", *what, "--overwrite", *words)
                if None not in change.given.values():
                    self._undo.append(Change(change.what, where, name, dict.fromkeys(change.given)))


@contextmanager
def pitched(kubectl: list[str], namespaces: tuple[str, ...], pods: tuple[str, ...]) -> Iterator[Field]:
    """Make the field, and take it away afterwards."""
    spaces = {name: {"ns": name} for name in namespaces}
    there = {(space, pod): {"pod": pod} for space in namespaces for pod in pods}
    with Grounds(kubectl, spaces, there, PORTS) as grounds:
        made = Field(grounds)
        made.look()
        yield made
