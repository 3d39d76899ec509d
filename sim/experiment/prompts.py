"""What prompts have in common: recorded blocks, shared prefixes, and the history of a session.

A prompt is a tuple of segments with keys; equal keys are equal text. Each maker of segments has a range of keys of its
own, so that text meets only where it is meant to. The empty prompt shares nothing with any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.experiment.draft import Draft
from sim.experiment.schema import SharedPrefixes
from sim.experiment.traces.rows import Prompt
from sim.experiment.workload import PromptSegment

if TYPE_CHECKING:
    import numpy as np

SHARED_PREFIX_KEYS = 1 << 40
SESSION_KEYS = 1 << 41
OWN_TEXT_KEYS = 1 << 42
"""Recorded block ids stay below all three."""

_SEGMENTS_PER_SESSION = 1 << 16


def history(session: int, asked: list[int], answered: list[int]) -> list[Prompt]:
    """Return the prompts of a session's turns: each is everything said before, and the new question."""
    prompts: list[Prompt] = []
    said: Prompt = ()
    key = SESSION_KEYS + session * _SEGMENTS_PER_SESSION
    for turn, (question, answer) in enumerate(zip(asked, answered, strict=True)):
        prompts.append((*said, PromptSegment(key + 2 * turn, question)))
        said = (*prompts[-1], PromptSegment(key + 2 * turn + 1, answer))
    return prompts


def prepend_prefixes(draft: Draft, shared: SharedPrefixes, random: np.random.Generator) -> None:
    """Put a shared prefix before the prompts that have one; a session has the same one, or none, in all its turns."""
    import numpy as np

    weights = 1.0 / np.arange(1, shared.count + 1) ** shared.zipf
    ranks = random.choice(shared.count, len(draft), p=weights / weights.sum())
    has_one = random.random(len(draft)) < shared.share
    drawn = np.where(has_one, ranks, -1).tolist()
    of_session: dict[str, int] = {}
    prefixes = [PromptSegment(SHARED_PREFIX_KEYS + rank, shared.tokens) for rank in range(shared.count)]
    added = np.zeros(len(draft), dtype=np.int64)
    for place, (session, rank) in enumerate(zip(draft.sessions, drawn, strict=True)):
        chosen = of_session.setdefault(session, rank) if session else rank
        if chosen < 0:
            continue
        own = draft.prompts[place] or (PromptSegment(OWN_TEXT_KEYS + place, int(draft.input_tokens[place])),)
        draft.prompts[place] = (prefixes[chosen], *own)
        added[place] = shared.tokens
    draft.input_tokens = draft.input_tokens + added
    draft.notes.append(
        f"{int((added > 0).sum()):,} prompts begin with one of {shared.count} shared prefixes of {shared.tokens} tokens"
    )
