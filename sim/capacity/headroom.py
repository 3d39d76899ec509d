"""How much more traffic the answer bears before an SLO breaks, and what gives way first.

More traffic is the same workload in less time: shapes and lengths stay, the rate scales.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sim.capacity.decide import meets
from sim.capacity.search import Probe

STEPS = (1.1, 1.25, 1.5, 2.0, 3.0)
"""Rates that are tried, relative to the scenario's, before the last step is halved."""

HALVINGS = 3
FULL_CACHE = 0.98
"""KV cache usage from which a cache counts as full."""


@dataclass(frozen=True, slots=True)
class Headroom:
    """The answer under more traffic."""

    factor: float
    """The highest rate that was flown and met every SLO, relative to the scenario's; 1: none above it did."""
    broken_at: float | None
    """The lowest rate flown that did not; None: all that were tried did."""
    breaks: str
    """What broke there, in words; empty where nothing did."""


def headroom(at_rate: Callable[[float], Probe]) -> Headroom:
    """Fly the answer at higher and higher rates: `at_rate(factor)`."""
    holds, breaks, why = 1.0, None, ""
    for factor in STEPS:
        probe = at_rate(factor)
        if _meets(probe):
            holds = factor
        else:
            breaks, why = factor, what_breaks(probe)
            break
    for _ in range(HALVINGS if breaks is not None else 0):
        assert breaks is not None
        middle = round((holds + breaks) / 2, 3)
        probe = at_rate(middle)
        if _meets(probe):
            holds = middle
        else:
            breaks, why = middle, what_breaks(probe)
    return Headroom(holds, breaks, why)


def what_breaks(probe: Probe) -> str:
    """Say which SLO is missed most in a flight, and what stands behind it."""
    counts = {(kind.name, slo): broken for kind in probe.classes for slo, broken in kind.broken if broken}
    if not counts:
        return ""
    (name, slo), _ = max(counts.items(), key=lambda item: item[1])
    what = "requests are lost" if slo == "lost" else f"{slo.upper()} is missed"
    return f"{name}: {what}, {_cause(probe, slo)}"


def _cause(probe: Probe, slo: str) -> str:
    figures = probe.figures
    if figures.get("peak_kv_usage", 0.0) >= FULL_CACHE or figures.get("preemptions", 0.0) > 0:
        return "because the KV cache is full"
    if figures.get("peak_seats", 0.0) >= 1.0:
        return "because every seat of the batch is taken (max_num_seqs)"
    if slo == "tpot":
        return "because steps grow longer with the batch and with prompts among them"
    if slo == "lost":
        return "because the router's queue is full or waiting takes too long"
    return "because prompts wait for their turn in a step (max_num_batched_tokens)"


def _meets(probe: Probe) -> bool:
    return not probe.is_cut and all(meets([counts]) for counts in probe.classes)
