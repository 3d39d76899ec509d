"""Random streams: one per subsystem, named, all from the scenario's seed, so that a draw more in one moves no other."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the named stream of a seed; the same on every machine (PCG64)."""
    import numpy as np

    digest = blake2b(name.encode(), digest_size=8).digest()
    return np.random.Generator(np.random.PCG64([seed, int.from_bytes(digest, "big")]))
