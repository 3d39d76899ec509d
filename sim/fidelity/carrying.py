"""Which scales of operator times are carried from other models to a held-out one: its relatives tell among each other.

Host time is the host's and is carried always. How far kernels are from their table's times may be the engine's doing,
which carries over, or one model's kernels', which does not. So each relative is predicted from the relatives of other
models, with each scale carried or left at 1; what predicts them best is done for the held-out group. Its own rows have
no say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Final

import numpy as np

from sim.fidelity.correction import MODEL, Carried, Fits, Group, inherited
from sim.fidelity.prediction import predict
from sim.fidelity.rows import Row

FEW_ROWS: Final = 12
"""Of a relative that are flown to tell."""
CHOICES: Final = tuple(Carried(*choice) for choice in product((True, False), repeat=2))
WORTH: Final = 0.95
"""Of the loss with both scales carried: what another choice must get below, or the difference is chance."""
TOLERATED: Final = 0.1
"""Log errors beyond it count in proportion and not squared, as in `fitting`."""


def carried(group: Group, fits: Fits, rows: Mapping[Group, Sequence[Row]]) -> Carried:
    """Choose for a held-out group; of `rows` those of its relatives are looked at."""
    relatives = inherited(group, fits).relatives
    losses = dict.fromkeys(CHOICES, 0.0)
    for relative in relatives:
        others = {other: fits.by_group[other] for other in relatives if other[2] != relative[2]}
        if others:
            for choice in CHOICES:
                losses[choice] += _loss(rows[relative], relative, Fits(others, {relative: choice}))
    best = min(CHOICES, key=losses.__getitem__)
    return best if losses[best] < WORTH * losses[CHOICES[0]] else CHOICES[0]


def all_carried(fits: Fits, rows: Mapping[Group, Sequence[Row]]) -> dict[Group, Carried]:
    """Choose for every group that is predicted from other models."""
    held_out = [group for group in rows if inherited(group, fits).held_out == MODEL]
    return {group: carried(group, fits, rows) for group in held_out}


def _loss(rows: Sequence[Row], group: Group, fits: Fits) -> float:
    heritage = inherited(group, fits)
    chosen = [rows[int(place)] for place in np.linspace(0, len(rows) - 1, min(FEW_ROWS, len(rows)))]
    errors = []
    for row in chosen:
        predicted = predict(row, heritage.correction, heritage.drive)
        errors += [np.log(predicted.ttft / row.ttft), np.log(predicted.tpot / row.tpot)]
    return float(np.mean(np.sqrt(1.0 + (np.array(errors) / TOLERATED) ** 2)))
