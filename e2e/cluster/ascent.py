"""The way up: which stages a cluster takes from nothing, or from where it stands, to a first token."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from e2e.cluster.loading import Images
from e2e.cluster.nodes import Nodes
from e2e.cluster.place import Place
from e2e.cluster.platform import Platform
from e2e.cluster.preflight import look
from e2e.cluster.programs import StageFailed
from e2e.cluster.stack import Stack
from e2e.cluster.stages import Clock, Stage
from e2e.components import Component


def stages_of(
    place: Place, nodes: Nodes, components: Mapping[str, Component], *, rebuild: bool = False, fresh: bool = False
) -> list[Stage]:
    """Return the stages; on somebody else's cluster nodes and images are theirs. `fresh` deletes it first."""

    def preflight(_: Clock) -> str:
        findings = []
        for finding in look(place.programs, nodes.api_port):
            findings.append(finding)
            if finding.advice:
                print(f"      {finding.what}: {finding.seen}: {finding.advice}", file=sys.stderr, flush=True)
        fatal = [finding for finding in findings if finding.advice and finding.is_fatal]
        if fatal:
            raise StageFailed("; ".join(f"{finding.what}: {finding.seen}: {finding.advice}" for finding in fatal))
        if fresh:
            nodes.delete()
        return ", ".join(f"{finding.what} {finding.seen}" for finding in findings)

    stack = Stack(place, components)
    own = [
        Stage("preflight", 120, preflight),
        Stage("cluster", 300, nodes.make),
        Stage("images", 1500, Images(place, rebuild).bring),
    ]
    shared = [
        Stage("platform", 420, Platform(place, components).install),
        Stage("stack", 300, stack.install),
        Stage("first token", 120, stack.first_token),
    ]
    return shared if place.given is not None else own + shared
