"""What a router remembers of where it sent which prompts: the memory of prefix-aware routing.

Apart from the policy, because the policy may be extended by others and this may be compiled.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence


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
