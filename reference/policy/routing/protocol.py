"""What a routing policy is, and the pick that all of them share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from reference.policy.view import Chance, Decision, Endpoint, RequestView


class RoutingPolicy(Protocol):
    """Decides where a request goes. Made once per pool, asked for every request; may remember.

    May also have `dispatched(request, endpoint_name, now)`, called after every dispatch, and `removed(endpoint_name)`,
    called when an endpoint is gone.
    """

    def route(self, request: RequestView, endpoints: Sequence[Endpoint], now: float, chance: Chance) -> Decision:
        """Choose one of `endpoints`: never empty, sorted by name, all able to take the request. Read them only.

        `chance()` gives uniforms in [0, 1); the same arguments and the same draws must give the same decision.
        """


def pick_best(scores: Sequence[tuple[str, float]], reason: str) -> Decision:
    """Take the highest score; the first by name when several are equal."""
    best_name, best = scores[0]
    for name, score in scores:
        if score > best or (score == best and name < best_name):
            best_name, best = name, score
    return Decision(best_name, reason, tuple(scores))


def load_scores(endpoints: Sequence[Endpoint]) -> tuple[tuple[str, float], ...]:
    """Score endpoints by what is in flight to them: 1 for none, falling towards 0."""
    return tuple((endpoint.name, 1.0 / (1.0 + endpoint.in_flight)) for endpoint in endpoints)
