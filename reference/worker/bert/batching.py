"""Which texts are computed together: a queue in order of arrival, cut into batches by number, tokens and waiting time.

Does no I/O and knows no clock; `now` is a parameter. The cost of a batch is what the device computes, padding included:
its longest text times the number of texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, eq=False)
class Text:
    """One text of a request as token ids. It waits until it is taken into a batch, or its client leaves."""

    tokens: list[int]
    came_at: float
    owner: Any = None
    """Whoever is told of the outcome."""


@dataclass(frozen=True, slots=True)
class BatchRules:
    """When a batch is full, and how long it may take to fill."""

    max_texts: int
    max_tokens: int
    max_wait_seconds: float


class BatchQueue:
    """The texts that wait: `put` them, and `take` a batch from `ready_at` on."""

    def __init__(self, rules: BatchRules) -> None:
        self._rules = rules
        # in order of arrival, and quick to leave from the middle
        self._texts: dict[Text, None] = {}
        self.num_tokens = 0

    def __len__(self) -> int:
        """Count the texts that wait."""
        return len(self._texts)

    def put(self, text: Text) -> None:
        """Let a text wait."""
        self._texts[text] = None
        self.num_tokens += len(text.tokens)

    def leave(self, text: Text) -> None:
        """Forget a text; does nothing when it has been taken already."""
        if text in self._texts:
            del self._texts[text]
            self.num_tokens -= len(text.tokens)

    def ready_at(self) -> float | None:
        """Return from when on a batch may be taken: at once if it is full, else when its oldest text has waited.

        None: nothing waits.
        """
        batch, is_full = self._next()
        if not batch:
            return None
        return batch[0].came_at + (0.0 if is_full else self._rules.max_wait_seconds)

    def take(self) -> list[Text]:
        """Take the next batch in order of arrival: one text at least, whatever it costs, if any waits."""
        batch, _ = self._next()
        for text in batch:
            self.leave(text)
        return batch

    def _next(self) -> tuple[list[Text], bool]:
        """Return the batch at the front, and whether it is full: nothing can join it, or the next in line cannot."""
        rules = self._rules
        batch: list[Text] = []
        longest = 0
        for text in self._texts:
            longest = max(longest, len(text.tokens))
            if batch and longest * (len(batch) + 1) > rules.max_tokens:
                return batch, True
            batch.append(text)
            if len(batch) == rules.max_texts:
                return batch, True
        return batch, bool(batch) and longest * (len(batch) + 1) > rules.max_tokens
