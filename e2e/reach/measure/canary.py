"""Canaries: before any measurement counts, a connection that must work works and one that must be denied is denied.

A network that ignores policies fails open and silently; only this shows it. Made in a namespace of its own and removed.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from e2e.reach.measure.grounds import IMAGE, Grounds, until
from e2e.reach.measure.probing import Prober, Source, Target, sources_of

LISTENED, UNLISTED = 8080, 47001
DENY = "everything-in"
CANARY_SECONDS = 40.0


@dataclass(frozen=True, slots=True)
class Canary:
    """What the canaries saw; `trouble` is empty where measurements may be believed."""

    outcomes: tuple[str, ...]
    trouble: str = ""

    def __str__(self) -> str:
        verdict = self.trouble or "what must work works, what must be denied is denied"
        return f"canary: {verdict} ({'; '.join(self.outcomes)})"


def fly_canary(kubectl: Sequence[str], prober: Prober, image: str = IMAGE) -> Canary:
    """Make two pods, connect them, deny it by a policy, and remove everything."""
    name = f"windtunnel-canary-{secrets.token_hex(3)}"
    pods = {(name, "asks"): {"role": "asks"}, (name, "answers"): {"role": "answers"}}
    with Grounds(kubectl, {name: {}}, pods, {LISTENED: ("tcp", "udp")}, image) as grounds:
        told = {pod["metadata"]["name"]: pod for pod in grounds.told("pods")}
        source = sources_of(list(told.values()))[f"{name}/asks"]
        address = told["answers"]["status"]["podIP"]
        targets = [Target(address, "TCP", LISTENED), Target(address, "UDP", LISTENED), Target(address, "TCP", UNLISTED)]
        wanted = ["connected", "answered", "refused"]
        seen = _seen(prober, source, targets, wanted)
        if seen != wanted:
            said = _said(seen)
            return Canary((said,), f"without any policy, expected {', '.join(wanted)}; the network does not work")
        grounds.apply([_deny(name)])
        denied = _seen(prober, source, targets, ["silent"] * 3)
        outcomes = (f"without a policy {_said(seen)}", f"denied {_said(denied)}")
        if any(outcome in ("connected", "answered") for outcome in denied):
            return Canary(outcomes, "a denied connection passes: this cluster's network does not enforce policies")
        if denied[2] == "refused":
            return Canary(outcomes, "a denied connection is refused, so a refusal cannot be told from an open way")
        return Canary(outcomes)


def _seen(prober: Prober, source: Source, targets: list[Target], wanted: list[str]) -> list[str]:
    """Return the outcomes, as soon as they are the wanted ones or when the time is up."""
    deadline, seen = until("canary", CANARY_SECONDS), [""] * len(targets)
    while seen != wanted and deadline.again():
        found = prober.probe({source: targets})
        seen = [found[source, target] for target in targets]
    return seen


def _said(seen: list[str]) -> str:
    return f"TCP {seen[0]}, UDP {seen[1]}, port without a listener {seen[2]}"


def _deny(namespace: str) -> dict[str, object]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": DENY},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }
