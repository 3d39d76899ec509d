"""Block hashes of a prompt: the one thing that policies and engines share.

A prompt is a list of tokens, or segments that stand for them: equal keys are equal text, so prompts that start with
equal segments share a prefix. Hashes are chained, so equal hashes at a position mean equal prompts up to there. They
are the same in every process: nothing here depends on the interpreter's hash seed. Start at `hash_segments`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol
from zlib import crc32

_MASK = (1 << 64) - 1
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_WORD_CHARACTERS = 7


class Segment(Protocol):
    """A stretch of a prompt: `tokens` tokens of the text that `key` stands for, from its beginning."""

    @property
    def key(self) -> int:
        """Equal keys are equal text."""

    @property
    def tokens(self) -> int:
        """How many tokens of it."""


def block_hashes(token_ids: Sequence[int], block_size: int) -> tuple[int, ...]:
    """Hash the full blocks of a prompt, each with all before it; a last block that is not full has none."""
    parent = 0
    hashes = []
    for start in range(0, len(token_ids) - block_size + 1, block_size):
        parent = hash((parent, *token_ids[start : start + block_size]))
        hashes.append(parent)
    return tuple(hashes)


def hash_segments(segments: Iterable[Segment], block_size: int) -> tuple[int, ...]:
    """Hash the full blocks of a prompt given as segments; costs a step a block, not a token.

    Equal where, and only where, `block_hashes` of the rendered tokens are equal; the values themselves differ.
    """
    parent = 0
    hashes: list[int] = []
    append = hashes.append
    begun: tuple[tuple[int, int, int], ...] = ()
    missing = block_size
    for segment in segments:
        key, offset, end = segment.key, 0, segment.tokens
        if not end:
            continue
        if begun:
            taken = missing if missing < end else end
            begun += ((key, 0, taken),)
            missing -= taken
            offset = taken
            if missing:
                continue
            parent = hash((parent, begun))
            append(parent)
            begun = ()
            missing = block_size
        full_end = offset + (end - offset) // block_size * block_size
        for start in range(offset, full_end, block_size):
            parent = hash((parent, key, start))
            append(parent)
        if full_end < end:
            begun = ((key, full_end, end - full_end),)
            missing = block_size - (end - full_end)
    return tuple(hashes)


def segment_token(key: int, position: int) -> int:
    """Return the token at a position of a segment's text: 35 bits, well mixed (the finaliser of splitmix64)."""
    mixed = (key * 0x9E3779B97F4A7C15 + position * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return (mixed ^ (mixed >> 31)) >> 29


def segment_words(key: int, tokens: int) -> str:
    """Render a segment as text, one short word a token: what the emulated engine counts and hashes as its tokens."""
    return " ".join(_word(segment_token(key, position)) for position in range(tokens))


def words_to_tokens(text: str) -> list[int]:
    """Take each whitespace-separated word as a token, as the emulated engine does.

    The number is the word's bytes up to eight of them, and beyond that 64 bits of two checksums: enough that unequal
    words practically never meet.
    """
    number = int.from_bytes
    return [
        number(word, "little") if len(word) <= 8 else (crc32(word) << 32) | crc32(word[::-1])
        for word in text.encode("utf-8", "surrogatepass").split()
    ]


def _word(token: int) -> str:
    letters = []
    for _ in range(_WORD_CHARACTERS):
        letters.append(_ALPHABET[token & 31])
        token >>= 5
    return "".join(letters)
