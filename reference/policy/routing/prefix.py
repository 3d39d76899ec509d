"""Prefix-aware routing: send a prompt where its beginning was computed before, unless that endpoint is overloaded.

The router cannot see the engines' caches; it remembers what it sent where (`PrefixIndex`), a bounded number of blocks
per endpoint, the least recently sent forgotten first, as an engine would evict them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from reference.policy.routing.protocol import load_scores
from reference.policy.view import Chance, Decision, Endpoint, RequestView


class PrefixIndex:
    """Which endpoint has probably cached which blocks. Every `stride`th block of a prompt is remembered."""

    def __init__(self, max_blocks: int, stride: int) -> None:
        self._max_marks = max(1, max_blocks // stride)
        self._stride = stride
        self._holders: dict[int, int] = {}
        """Block hash → bit mask of endpoint numbers."""
        self._marks: dict[str, OrderedDict[int, None]] = {}
        self._bits: dict[str, int] = {}
        self._names: dict[int, str] = {}

    def record(self, block_hashes: Sequence[int], endpoint: str) -> None:
        """Remember that an endpoint computes these blocks now."""
        bit = self._bits.get(endpoint)
        if bit is None:
            bit = self._enrol(endpoint)
        marks, holders = self._marks[endpoint], self._holders
        # deepest first, so that a prefix is younger than what hangs on it and outlives it
        for block_hash in reversed(block_hashes[self._stride - 1 :: self._stride]):
            if block_hash in marks:
                marks.move_to_end(block_hash)
            else:
                marks[block_hash] = None
                holders[block_hash] = holders.get(block_hash, 0) | bit
        while len(marks) > self._max_marks:
            forgotten, _ = marks.popitem(last=False)
            self._drop(forgotten, bit)

    def matches(self, block_hashes: Sequence[int]) -> dict[str, int]:
        """Return how many leading blocks of a prompt each endpoint probably holds; those with none are absent."""
        holders, names = self._holders, self._names
        alive, depth = -1, 0
        found: dict[str, int] = {}
        for block_hash in block_hashes[self._stride - 1 :: self._stride]:
            still = holders.get(block_hash, 0) & alive
            if still != alive and depth:
                self._note(found, alive & ~still, depth, names)
            if not still:
                return found
            alive = still
            depth += self._stride
        if depth:
            self._note(found, alive, depth, names)
        return found

    def forget(self, endpoint: str) -> None:
        """Drop an endpoint that is gone."""
        bit = self._bits.pop(endpoint, None)
        if bit is not None:
            del self._names[bit]
            for block_hash in self._marks.pop(endpoint):
                self._drop(block_hash, bit)

    def _enrol(self, endpoint: str) -> int:
        bit = 1
        while bit in self._names:
            bit <<= 1
        self._bits[endpoint], self._names[bit], self._marks[endpoint] = bit, endpoint, OrderedDict()
        return bit

    def _drop(self, block_hash: int, bit: int) -> None:
        left = self._holders[block_hash] & ~bit
        if left:
            self._holders[block_hash] = left
        else:
            del self._holders[block_hash]

    @staticmethod
    def _note(found: dict[str, int], mask: int, depth: int, names: dict[int, str]) -> None:
        while mask:
            bit = mask & -mask
            found[names[bit]] = depth
            mask ^= bit


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
        matches = self._index.matches(request.block_hashes) if request.block_hashes else {}
        wanted = self._min_match * len(request.block_hashes)
        best, best_depth, guarded = None, 0, False
        if matches:
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
        least = endpoints[0]
        for endpoint in endpoints:
            if endpoint.in_flight < least.in_flight:
                least = endpoint
        reason = "prefix holder overloaded, least in flight" if guarded else "no prefix, least in flight"
        return Decision(least.name, reason, load_scores(endpoints) if self._explain else ())

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
