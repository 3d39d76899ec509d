"""The nearest valid choice: what somebody probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def meant(word: str, known: Iterable[str], likeness: float = 0.5) -> str:
    """Return ` (did you mean 'x'?)` for the nearest of the known words, or nothing when none is near."""
    close = get_close_matches(word, list(known), 1, likeness)
    return f" (did you mean {close[0]!r}?)" if close else ""


def one_of(known: Iterable[str], most: int = 8) -> str:
    """Return `expected one of a, b, c`, shortened when there are many."""
    names = list(known)
    return f"expected one of {', '.join(names[:most])}{', …' if len(names) > most else ''}"
