"""Prefix-aware routing: send a prompt where its beginning was computed before, unless that endpoint is overloaded.

The router cannot see the engines' caches; it remembers what it sent where (`PrefixIndex`), a bounded number of blocks
per endpoint, the least recently sent forgotten first, as an engine would evict them.
"""

from __future__ import annotations

from collections.abc import Sequence

from reference.policy.routing.least import least_in_flight
from reference.policy.routing.prefix_index import PrefixIndex
from reference.policy.routing.protocol import load_scores
from reference.policy.view import Chance, Decision, Endpoint, RequestView, from_fields


class PrefixAware:
    """Where most of the prompt was sent before, guarded against overload; least in flight when nobody has it.

    Options: `max_blocks` remembered per endpoint; `stride` of blocks between marks; `load_factor` and `load_slack`: an
    endpoint with more in flight than load_factor · mean + load_slack is passed over; `min_match`, the share of the
    prompt from which a match counts.
    """

    def __init__(
        self,
        *,
        max_blocks: int = 200_000,
        stride: int = 4,
        load_factor: float = 1.5,
        load_slack: float = 4.0,
        min_match: float = 0.1,
        explain: bool = False,
    ) -> None:
        if stride < 1 or max_blocks < stride:
            raise ValueError(f"stride is {stride!r} and max_blocks {max_blocks!r}; expected 1 <= stride <= max_blocks")
        self._index = PrefixIndex(max_blocks, stride)
        self._load_factor, self._load_slack = load_factor, load_slack
        self._min_match = min_match
        self._explain = explain

    def route(self, request: RequestView, endpoints: Sequence[Endpoint], now: float, chance: Chance) -> Decision:
        """Filter the overloaded, score by matched share, pick the best match and the least loaded among equals."""
        hashes = request.block_hashes
        matches = self._index.matches(hashes) if hashes else None
        best, best_depth, guarded = None, 0, False
        if matches:
            wanted = self._min_match * len(hashes)
            bound = self._load_factor * sum([e.in_flight for e in endpoints]) / len(endpoints) + self._load_slack
            for endpoint in endpoints:
                depth = matches.get(endpoint.name, 0)
                if not depth or depth < wanted or depth < best_depth:
                    continue
                if endpoint.in_flight > bound:
                    guarded = True
                elif best is None or depth > best_depth or endpoint.in_flight < best.in_flight:
                    best, best_depth = endpoint, depth
            if best is not None:
                return Decision(best.name, "longest prefix", self._scores(request, endpoints, matches))
        least = least_in_flight(endpoints)
        reason = "prefix holder overloaded, least in flight" if guarded else "no prefix, least in flight"
        scores = load_scores(endpoints) if self._explain else ()
        return from_fields(Decision, (least.name, reason, scores))

    def dispatched(self, request: RequestView, endpoint_name: str, now: float) -> None:
        """Remember where the prompt went."""
        if request.block_hashes:
            self._index.record(request.block_hashes, endpoint_name)

    def removed(self, endpoint_name: str) -> None:
        """Forget what a gone endpoint held."""
        self._index.forget(endpoint_name)

    def _scores(
        self, request: RequestView, endpoints: Sequence[Endpoint], matches: dict[str, int]
    ) -> tuple[tuple[str, float], ...]:
        if not self._explain:
            return ()
        blocks = len(request.block_hashes)
        return tuple((endpoint.name, matches.get(endpoint.name, 0) / blocks) for endpoint in endpoints)
