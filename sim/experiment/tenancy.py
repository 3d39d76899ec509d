"""Who a request belongs to: a class and a tenant, each drawn by share; the requests of a session share theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def assign(shares: Sequence[float], sessions: Sequence[str], random: np.random.Generator) -> NDArray[np.int64]:
    """Draw a place among the shares for each row; rows with the same session, unless it is empty, get the first's."""
    import numpy as np

    if len(shares) == 1:
        return np.zeros(len(sessions), dtype=np.int64)
    weights = np.asarray(shares) / sum(shares)
    drawn = random.choice(len(shares), len(sessions), p=weights).astype(np.int64)
    if not any(sessions):
        return drawn
    first: dict[str, int] = {}
    of_session = [
        first.setdefault(session, place) if session else place
        for session, place in zip(sessions, drawn.tolist(), strict=True)
    ]
    return np.asarray(of_session, dtype=np.int64)
