"""Weighted scorers: each looks at one thing and scores in [0, 1]; the weighted mean decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from reference.policy.routing.prefix_index import PrefixIndex
from reference.policy.routing.protocol import pick_best
from reference.policy.view import Chance, Decision, Endpoint, RequestView

Scorer = Callable[[Sequence[Endpoint]], list[float]]
"""Scores all endpoints at once, each in [0, 1]: a call per endpoint would cost more than the arithmetic."""


def _in_flight(endpoints: Sequence[Endpoint]) -> list[float]:
    return [1.0 / (1.0 + endpoint.in_flight) for endpoint in endpoints]


def _queue_depth(endpoints: Sequence[Endpoint]) -> list[float]:
    depths = [endpoint.observed.queue_depth for endpoint in endpoints]
    return [1.0 / (1.0 + depth) if depth > 0 else 1.0 for depth in depths]


def _kv_usage(endpoints: Sequence[Endpoint]) -> list[float]:
    usages = [endpoint.observed.kv_usage for endpoint in endpoints]
    return [1.0 - usage if 0.0 < usage < 1.0 else float(usage < 1.0) for usage in usages]


SCORERS: Mapping[str, Scorer] = {"in_flight": _in_flight, "queue_depth": _queue_depth, "kv_usage": _kv_usage}
"""By name; `prefix` (share of the prompt probably cached there) is added per request."""


class Weighted:
    """The highest weighted mean of scorers. Options: a weight each for prefix, in_flight, queue_depth, kv_usage."""

    def __init__(
        self,
        *,
        prefix: float = 2.0,
        in_flight: float = 1.0,
        queue_depth: float = 1.0,
        kv_usage: float = 1.0,
        explain: bool = False,
    ) -> None:
        weights = {"in_flight": in_flight, "queue_depth": queue_depth, "kv_usage": kv_usage}
        self._total = prefix + sum(weights.values())
        if min(prefix, *weights.values()) < 0 or not self._total:
            raise ValueError(f"weights are {weights | {'prefix': prefix}}; expected none below 0 and one above")
        self._scorers = [(SCORERS[name], weight) for name, weight in weights.items() if weight]
        self._prefix = prefix
        self._index = PrefixIndex(max_blocks=200_000, stride=4)
        self._explain = explain

    def route(self, request: RequestView, endpoints: Sequence[Endpoint], now: float, chance: Chance) -> Decision:
        """Score every endpoint and take the best."""
        hashes = request.block_hashes
        matches = self._index.matches(hashes) if self._prefix and hashes else {}
        totals = [0.0] * len(endpoints)
        for scorer, weight in self._scorers:
            totals = [total + weight * score for total, score in zip(totals, scorer(endpoints), strict=True)]
        if matches:
            share = self._prefix / len(hashes)
            totals = [t + share * matches.get(e.name, 0) for t, e in zip(totals, endpoints, strict=True)]
        scores = [(e.name, min(1.0, t / self._total)) for t, e in zip(totals, endpoints, strict=True)]
        decision = pick_best(scores, "best weighted score")
        return decision if self._explain else Decision(decision.endpoint, decision.reason)

    def dispatched(self, request: RequestView, endpoint_name: str, now: float) -> None:
        """Remember where the prompt went."""
        if self._prefix and request.block_hashes:
            self._index.record(request.block_hashes, endpoint_name)

    def removed(self, endpoint_name: str) -> None:
        """Forget what a gone endpoint held."""
        self._index.forget(endpoint_name)
