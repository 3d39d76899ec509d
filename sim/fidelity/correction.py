"""What operator times leave out, as four explicit numbers, and how they are fitted and carried over.

seconds of a step  = overhead + decode · (graphed part and context) + prefill · (the rest)
TTFT of a request  = what the engine's queue and steps make of it + request_seconds

A correction is fitted to the rows of one group (engine, GPU, model, harness) and never used on them: a held-out group
is predicted with what its relatives say. Relatives are the groups of the same engine, harness and model on another GPU;
where there is none, all groups of the same engine and harness with another model; where there is none, of the engine.

What an unpublished harness did (`Drive`) is not in its rows. Each group is fitted under every drive thought of, and a
held-out group is taken to have been driven as fits its relatives best: its own rows have no say in that either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Final, NamedTuple

import numpy as np

from reference.engine import StepCost
from sim.hardware.profile import Profile

Group = tuple[str, str, str, str]
"""Engine, GPU, family of the model, harness."""

GRAPHED_TOKENS: Final = 256
"""Knots up to here are a step of decodes; see `sim.hardware.operator_tables`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What is put on top of operator times. Scales are ratios, the others seconds."""

    decode: float = 1.0
    prefill: float = 1.0
    overhead: float = 0.0
    """Host time of a step that the GPU does not hide: scheduling, input preparation, sampling, hand-over."""
    request_seconds: float = 0.0
    """Parsing, tokenising and the network, per request."""

    def applied_to(self, profile: Profile) -> StepCost:
        """Give the profile's step cost with this on top."""
        cost = profile.cost
        highest, knots = 0.0, []
        for tokens, seconds in cost.token_seconds:
            scaled = seconds * (self.decode if tokens <= GRAPHED_TOKENS else self.prefill)
            highest = max(highest, scaled)
            knots.append((tokens, highest))
        return StepCost(
            overhead=cost.overhead + self.overhead,
            token_seconds=tuple(knots),
            per_context_token=cost.per_context_token * self.decode,
            per_prefill_token=cost.per_prefill_token * self.prefill,
            per_prefill_pair=cost.per_prefill_pair * self.prefill,
        )


@dataclass(frozen=True, slots=True, order=True)
class Drive:
    """How an unpublished harness drove the engine, as far as TTFT hangs on it."""

    requests_per_client: int = 10
    """All clients send their first request at once, so few requests a client make the first rush weigh more."""
    budget: int = 8192
    """Tokens of a step, prompts in chunks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A group's correction under one drive, and how badly it fits: the robust loss of a row's log errors."""

    correction: Correction
    drive: Drive = Drive()
    misfit: float = 0.0


class Carried(NamedTuple):
    """Which scales a group that is predicted from other models takes from them; those it does not are 1."""

    decode: bool = True
    prefill: bool = True


@dataclass(frozen=True, slots=True)
class Fits:
    """All that was fitted, and what held-out groups carry of it (`sim.fidelity.carrying`): both scales, if not said."""

    by_group: Mapping[Group, Sequence[Fit]]
    carried: Mapping[Group, Carried] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """A held-out group's correction and drive: from whom, and how they are related."""

    correction: Correction
    drive: Drive = Drive()
    held_out: str
    """GPU: the model was fitted on another one. MODEL: the engine was fitted with other models."""
    relatives: tuple[Group, ...]


GPU: Final = "GPU"
MODEL: Final = "model"


def inherited(group: Group, fits: Fits) -> Inherited:
    """Give what a group's relatives say about it: the drive that fits them best, the median of each number under it.

    Raises:
        KeyError: the group has no relative at all.
    """
    engine, _, family, harness = group
    fitted = fits.by_group
    others = sorted(other for other in fitted if other != group and other[0] == engine)
    twins = [other for other in others if other[2] == family and other[3] == harness]
    if twins:
        return _heritage(twins, fitted, GPU)
    strangers = [other for other in others if other[2] != family]
    near = [other for other in strangers if other[3] == harness] or strangers
    if not near:
        raise KeyError(f"{group}: no other group of this engine was fitted")
    found = _heritage(near, fitted, MODEL)
    carried = fits.carried.get(group, Carried())
    left = {scale: 1.0 for scale, is_carried in carried._asdict().items() if not is_carried}
    return replace(found, correction=replace(found.correction, **left))


def _heritage(relatives: Sequence[Group], fitted: Mapping[Group, Sequence[Fit]], held_out: str) -> Inherited:
    under: dict[Drive, list[Fit]] = defaultdict(list)
    for relative in relatives:
        for fit in fitted[relative]:
            under[fit.drive].append(fit)
    most = max(map(len, under.values()))
    drive = min(
        (drive for drive, fits in under.items() if len(fits) == most),
        key=lambda drive: (sum(fit.misfit for fit in under[drive]), drive),
    )
    middle = _middle([fit.correction for fit in under[drive]])
    return Inherited(correction=middle, drive=drive, held_out=held_out, relatives=tuple(relatives))


def _middle(corrections: Sequence[Correction]) -> Correction:
    return Correction(**{name: float(np.median([getattr(one, name) for one in corrections])) for name in NAMES})


NAMES: Final = tuple(entry.name for entry in fields(Correction))
