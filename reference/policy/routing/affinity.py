"""Session affinity: a session stays on one endpoint by rendezvous hashing, and moves only when it must."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from reference.policy.routing.protocol import load_scores
from reference.policy.view import Chance, Decision, Endpoint, RequestView

_MASK = (1 << 64) - 1


class SessionAffinity:
    """The endpoint with the highest hash of (session, endpoint) that is not overloaded; no session, least in flight.

    When an endpoint leaves, only its own sessions move (Thaler and Ravishankar 1998). Options: `load_factor` and
    `load_slack`: an endpoint with more in flight than load_factor · mean + load_slack is passed over.
    """

    def __init__(self, *, load_factor: float = 2.0, load_slack: float = 8.0, explain: bool = False) -> None:
        self._load_factor, self._load_slack = load_factor, load_slack
        self._explain = explain
        self._fingerprints: dict[str, int] = {}
        """Of the endpoints seen: hashing their names anew for each request would cost most of the decision."""

    def route(self, request: RequestView, endpoints: Sequence[Endpoint], now: float, chance: Chance) -> Decision:
        """Filter the overloaded, score by rendezvous hash, pick the highest."""
        if request.session is None:
            least = min(endpoints, key=lambda endpoint: endpoint.in_flight)
            return Decision(least.name, "no session, least in flight", load_scores(endpoints) if self._explain else ())
        scores = self._scores(request.session, endpoints)
        home = scores.index(max(scores))
        bound = self._load_factor * sum([e.in_flight for e in endpoints]) / len(endpoints) + self._load_slack
        chosen, reason = home, "session's endpoint"
        if endpoints[home].in_flight > bound:
            # there is always one: not all can be above their mean
            able = [place for place, endpoint in enumerate(endpoints) if endpoint.in_flight <= bound] or [home]
            chosen = max(able, key=scores.__getitem__)
            reason = "session's endpoint overloaded, next by hash"
        named = tuple((e.name, s / 2**64) for e, s in zip(endpoints, scores, strict=True)) if self._explain else ()
        return Decision(endpoints[chosen].name, reason, named)

    def removed(self, endpoint_name: str) -> None:
        """Forget an endpoint that is gone."""
        self._fingerprints.pop(endpoint_name, None)

    def _scores(self, session: str, endpoints: Sequence[Endpoint]) -> list[int]:
        """Score each endpoint with 64 bits that depend on nothing but the session's name and its own."""
        of_session, known = fingerprint(session), self._fingerprints
        scores = []
        for endpoint in endpoints:
            of_endpoint = known.get(endpoint.name)
            if of_endpoint is None:
                of_endpoint = known[endpoint.name] = fingerprint(endpoint.name)
            # the finaliser of splitmix64: neighbouring inputs come out unrelated
            mixed = ((of_session ^ of_endpoint) * 0xBF58476D1CE4E5B9) & _MASK
            mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
            scores.append(mixed ^ (mixed >> 31))
        return scores


def fingerprint(name: str) -> int:
    """Return 64 bits of a name that are the same in every process."""
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
