"""How requests are split between the versions of one model: exact shares, and a session stays with its version.

A request of a session goes where the session hashes to, by the versions' weights: whoever talks to the canary goes on
talking to it, on every router, and when a weight grows, sessions move to that version only (weighted rendezvous
hashing). Requests without a session are counted: of every n that could go to any of two versions each has had its share
of n, to the request (the smooth weighted round robin of nginx). Nothing is drawn at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from reference.policy.routing.affinity import fingerprint


class VersionSplit:
    """Chooses among versions, request by request, and remembers what it owes to whom."""

    def __init__(self) -> None:
        self._owed: dict[str, float] = {}
        """Version → weight that it has been passed over for, less what it was ahead."""

    def choose(self, versions: Sequence[tuple[str, float]], session: str | None) -> str:
        """Choose one of `versions` (name, weight), sorted by name: those that can take this request.

        A version of weight 0 gets what no other can take. Whoever cannot take a request is owed nothing for it.
        """
        able = [(version, weight) for version, weight in versions if weight > 0]
        if not able:
            able = [(version, 1.0) for version, _ in versions]
        if len(able) == 1:
            return able[0][0]
        if session is not None:
            return min(able, key=lambda pair: (_distance(session, *pair), pair[0]))[0]
        return self._next_by_turn(able)

    def forget(self, version: str) -> None:
        """Drop what is owed to a version that is gone."""
        self._owed.pop(version, None)

    def _next_by_turn(self, able: Sequence[tuple[str, float]]) -> str:
        owed, total, chosen = self._owed, 0.0, able[0][0]
        for version, weight in able:
            owed[version] = owed.get(version, 0.0) + weight
            total += weight
            if owed[version] > owed[chosen]:
                chosen = version
        owed[chosen] -= total
        return chosen


def _distance(session: str, version: str, weight: float) -> float:
    """Return an exponential variate of rate `weight` that depends on the two names only; the least of them wins."""
    uniform = (fingerprint(f"{version}\x1f{session}") + 0.5) / 2.0**64
    return -log(uniform) / weight
