"""Prompts as text: the words of `reference.tokens.segment_words`, rendered by the thousand at once.

A prompt of a request is its segments, one after the other; a request without segments gets one that no other has. The
emulated engine counts a word as a token; for a real tokenizer `Wording` says how many words a token is worth.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from sim.experiment.workload import PromptSegment, WorkloadRequest

UNIQUE_KEYS = 1 << 60
"""Keys of prompts that share nothing; above every key that a workload makes."""

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = np.frombuffer("".join(low + high for high in _ALPHABET for low in _ALPHABET).encode(), dtype=np.uint16)
_LAST_AND_SPACE = np.frombuffer("".join(f"{letter} " for letter in _ALPHABET).encode(), dtype=np.uint16)
"""A word is seven letters of five bits each, the lowest first, and a space: two letters at a time."""
_CACHED_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Wording:
    """How words become tokens at an endpoint: tokens = `fixed_tokens` + `tokens_per_word` × words."""

    tokens_per_word: float = 1.0
    fixed_tokens: float = 0.0
    """What the chat template adds to every prompt."""

    def words(self, tokens: int) -> int:
        """Return how many words make up so many tokens of a segment, at least one."""
        return max(1, round(tokens / self.tokens_per_word))


class Prompter:
    """Renders prompts. Made once per replay; remembers the segments it rendered last, since prompts share them."""

    def __init__(self, wording: Wording, salt: int = 0) -> None:
        self._wording = wording
        self._salt = salt
        self._cache: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._cached_bytes = 0

    def prompt(self, request: WorkloadRequest) -> bytes:
        """Return the text of a request's prompt, ASCII, safe inside a JSON string."""
        fixed = self._wording.fixed_tokens
        own = (PromptSegment(UNIQUE_KEYS + request.index, request.input_tokens),)
        segments = tuple(segment for segment in request.prompt if segment.tokens) or own
        if not fixed:
            return b" ".join([self._segment(segment.key, segment.tokens) for segment in segments])
        # the template's tokens come off the last segment: what stands before it may be shared with other prompts
        *shared, last = segments
        words = [self._segment(segment.key, segment.tokens) for segment in shared]
        return b" ".join([*words, self._segment(last.key, max(1, round(last.tokens - fixed)))])

    def _segment(self, key: int, tokens: int) -> bytes:
        wanted = (key ^ self._salt, self._wording.words(tokens))
        cache = self._cache
        found = cache.get(wanted)
        if found is not None:
            cache.move_to_end(wanted)
            return found
        text = cache[wanted] = words_of(*wanted)
        self._cached_bytes += len(text)
        while self._cached_bytes > _CACHED_BYTES:
            self._cached_bytes -= len(cache.popitem(last=False)[1])
        return text


def words_of(key: int, num_words: int) -> bytes:
    """Render the first words of a segment: what `reference.tokens.segment_words` gives, many times as fast."""
    mask = (1 << 64) - 1
    mixed = np.arange(num_words, dtype=np.uint64)
    mixed *= np.uint64(0xD1B54A32D192ED03)
    mixed += np.uint64((key * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & mask)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    # 35 bits, so that they can be read as signed
    tokens = (mixed >> np.uint64(29)).view(np.int64)
    letters = np.empty((num_words, 4), dtype=np.uint16)
    for pair in range(3):
        letters[:, pair] = _PAIRS[(tokens >> (10 * pair)) & 1023]
    letters[:, 3] = _LAST_AND_SPACE[tokens >> 30]
    return letters.tobytes()[:-1]
