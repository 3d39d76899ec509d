"""Session affinity: a session stays on one endpoint by rendezvous hashing, and moves only when it must."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from reference.policy.routing.protocol import load_scores
from reference.policy.view import Chance, Decision, Endpoint, RequestView


class SessionAffinity:
    """The endpoint with the highest hash of (session, endpoint) that is not overloaded; no session, least in flight.

    When an endpoint leaves, only its own sessions move (Thaler and Ravishankar 1998). Options: `load_factor` and
    `load_slack`: an endpoint with more in flight than load_factor · mean + load_slack is passed over.
    """

    def __init__(self, *, load_factor: float = 2.0, load_slack: float = 8.0, explain: bool = False) -> None:
        self._load_factor, self._load_slack = load_factor, load_slack
        self._explain = explain

    def route(self, request: RequestView, endpoints: Sequence[Endpoint], now: float, chance: Chance) -> Decision:
        """Filter the overloaded, score by rendezvous hash, pick the highest."""
        if request.session is None:
            least = min(endpoints, key=lambda endpoint: endpoint.in_flight)
            return Decision(least.name, "no session, least in flight", load_scores(endpoints) if self._explain else ())
        bound = self._load_factor * sum(e.in_flight for e in endpoints) / len(endpoints) + self._load_slack
        scores = [(endpoint.name, rendezvous(request.session, endpoint.name)) for endpoint in endpoints]
        home = max(scores, key=lambda named: named[1])[0]
        able = {endpoint.name for endpoint in endpoints if endpoint.in_flight <= bound}
        chosen = max((named for named in scores if named[0] in able), key=lambda named: named[1], default=(home, 0.0))[
            0
        ]
        reason = "session's endpoint" if chosen == home else "session's endpoint overloaded, next by hash"
        return Decision(chosen, reason, tuple(scores) if self._explain else ())


def rendezvous(session: str, endpoint: str) -> float:
    """Return a number in [0, 1) that depends on nothing but the two names."""
    digest = blake2b(f"{session}\0{endpoint}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
