"""What a replica has done since it was made, in numbers."""

from __future__ import annotations

from typing import Final

NAMES: Final = (
    "submitted",
    "rejected",
    "finished",
    "aborted",
    "lost",
    "steps",
    "generated_tokens",
    "prefilled_tokens",
    "queried_tokens",
    "cached_tokens",
    "preemptions",
)


class Counters:
    """Totals of one engine. They only grow; crashes do not reset them."""

    __slots__ = (
        "aborted",
        "cached_tokens",
        "finished",
        "generated_tokens",
        "lost",
        "preemptions",
        "prefilled_tokens",
        "queried_tokens",
        "rejected",
        "steps",
        "submitted",
    )

    def __init__(self) -> None:
        self.submitted = 0
        """Accepted sequences: finished + aborted + lost + waiting + running."""
        self.rejected = 0
        self.finished = 0
        self.aborted = 0
        """Counted when they leave: at the end of the step that runs."""
        self.lost = 0
        """By crashes."""
        self.steps = 0
        self.generated_tokens = 0
        self.prefilled_tokens = 0
        """Prompt tokens computed, those recomputed after a preemption included."""
        self.queried_tokens = 0
        """Tokens looked up in the prefix cache, at admission."""
        self.cached_tokens = 0
        """Tokens found there."""
        self.preemptions = 0

    def as_dict(self) -> dict[str, int]:
        """Give all counters by name."""
        return {name: getattr(self, name) for name in NAMES}
