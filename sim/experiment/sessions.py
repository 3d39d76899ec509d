"""Conversations: each arrival starts a session, and its turns follow one another with time to read and think."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING

from sim.experiment.draft import Draft
from sim.experiment.lengths import draw, draw_counts
from sim.experiment.prompts import history
from sim.experiment.schema import Sessions
from sim.experiment.streams import stream
from sim.experiment.traces.rows import Prompt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Lengths = Callable[["NDArray[np.int64]"], "tuple[NDArray[np.int64], NDArray[np.int64]]"]
"""Given the class of each turn, its (input, output) tokens."""


def converse(
    starts: NDArray[np.float64],
    classes: NDArray[np.int64],
    lengths: Lengths,
    sessions: Sessions,
    duration: float,
    seed: int,
) -> Draft:
    """Let a session begin at each start, all of its turns in its class; turns after `duration` are dropped."""
    import numpy as np

    turns = draw_counts(sessions.turns, len(starts), stream(seed, "turns"))
    class_of_turn = np.repeat(classes, turns)
    asked, answered = lengths(class_of_turn)
    thinks = draw(sessions.think_time, len(asked), stream(seed, "think times"))
    pauses = answered * sessions.seconds_per_token + thinks
    at: list[float] = []
    prompts: list[Prompt] = []
    names: list[str] = []
    last = 0
    for number, (start, num_turns) in enumerate(zip(starts.tolist(), turns.tolist(), strict=True)):
        span = slice(last, last + num_turns)
        last = span.stop
        at += list(accumulate(pauses[span].tolist(), initial=start))[:-1]
        prompts += history(number, asked[span].tolist(), answered[span].tolist())
        names += [f"session-{number}"] * num_turns
    totals = np.asarray([sum(segment.tokens for segment in prompt) for prompt in prompts], dtype=np.int64)
    draft = Draft(
        np.asarray(at, dtype=np.float64), totals, answered, prompts, names, duration, len(at), class_of_turn, Counter()
    )
    draft.keep(draft.at < duration, "turn after the end")
    draft.in_order_of_time()
    return draft
