"""Policies that look at load: round robin (which does not), least in flight, power of two choices, least KV usage."""

from __future__ import annotations

from collections.abc import Sequence

from reference.policy.routing.least import least_in_flight
from reference.policy.routing.protocol import load_scores
from reference.policy.view import Chance, Decision, Endpoint, RequestView


class RoundRobin:
    """Each endpoint in turn, by name. Knows nothing of load: the baseline."""

    def __init__(self, *, explain: bool = False) -> None:
        self._explain = explain
        self._last = ""

    def route(self, request: RequestView, endpoints: Sequence[Endpoint], now: float, chance: Chance) -> Decision:
        """Take the next name after the last one."""
        chosen = endpoints[0].name
        last = self._last
        for endpoint in endpoints:
            if endpoint.name > last:
                chosen = endpoint.name
                break
        self._last = chosen
        return Decision(chosen, "next in turn", _equal_scores(endpoints) if self._explain else ())


class LeastInFlight:
    """The endpoint with the fewest requests in flight from this router; fresh, but blind to other routers."""

    def __init__(self, *, explain: bool = False) -> None:
        self._explain = explain

    def route(self, request: RequestView, endpoints: Sequence[Endpoint], now: float, chance: Chance) -> Decision:
        """Take the least loaded; the first by name among equals."""
        best = least_in_flight(endpoints)
        return Decision(best.name, "least in flight", load_scores(endpoints) if self._explain else ())


class PowerOfTwo:
    """The less loaded of two endpoints drawn at random: nearly as even, and routers do not herd (Mitzenmacher 2001)."""

    def __init__(self, *, explain: bool = False) -> None:
        self._explain = explain

    def route(self, request: RequestView, endpoints: Sequence[Endpoint], now: float, chance: Chance) -> Decision:
        """Draw two different endpoints and take the one with fewer in flight."""
        count = len(endpoints)
        first = int(chance() * count)
        second = int(chance() * (count - 1)) if count > 1 else first
        if count > 1 and second >= first:
            second += 1
        left, right = endpoints[min(first, second)], endpoints[max(first, second)]
        best = right if right.in_flight < left.in_flight else left
        return Decision(best.name, "less loaded of two drawn", load_scores((left, right)) if self._explain else ())


class LeastKvUsage:
    """The endpoint with the lowest KV cache usage as last scraped, and the fewest in flight among equals.

    `step`: usages within this fraction count as equal, because they are stale and every router sees the same ones.
    """

    def __init__(self, *, step: float = 0.05, explain: bool = False) -> None:
        if not 0 < step <= 1:
            raise ValueError(f"step is {step!r}; expected a fraction above 0, up to 1")
        self._step = step
        self._explain = explain

    def route(self, request: RequestView, endpoints: Sequence[Endpoint], now: float, chance: Chance) -> Decision:
        """Take the lowest usage by steps, then the fewest in flight, then the first by name."""
        step = self._step
        best = min(endpoints, key=lambda endpoint: (endpoint.observed.kv_usage // step, endpoint.in_flight))
        scores = (
            tuple((e.name, 1.0 - min(1.0, max(0.0, e.observed.kv_usage))) for e in endpoints) if self._explain else ()
        )
        return Decision(best.name, "least KV usage", scores)


def _equal_scores(endpoints: Sequence[Endpoint]) -> tuple[tuple[str, float], ...]:
    return tuple((endpoint.name, 1.0) for endpoint in endpoints)
