"""Which requests were good: they succeeded and met every limit of their class, counted from the scheduled time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from sim.experiment.columns import Bools, Requests
from sim.experiment.schema import Slo, TrafficClass


def slos_of(classes: Iterable[TrafficClass]) -> dict[str, Slo]:
    """Return the SLO of each class by its name."""
    return {traffic_class.name: traffic_class.slo for traffic_class in classes}


def has_limits(slo: Slo) -> bool:
    """Say whether it asks for anything beyond success."""
    return slo.ttft is not None or slo.tpot is not None or slo.e2e is not None


def good(requests: Requests, slos: Mapping[str, Slo]) -> Bools:
    """Return which requests were good. Failed, refused, timed-out and cancelled ones never are.

    A TPOT that is undefined (nothing followed the first chunk) breaks no limit; a TTFT that is, does.
    """
    is_good = requests.is_ok.copy()
    ttft, tpot, e2e = requests.ttft, requests.tpot, requests.e2e
    for name, slo in slos.items():
        is_met = np.ones(len(requests), dtype=bool)
        if slo.ttft is not None:
            is_met &= ttft <= slo.ttft
        if slo.tpot is not None:
            is_met &= np.isnan(tpot) | (tpot <= slo.tpot)
        if slo.e2e is not None:
            is_met &= e2e <= slo.e2e
        is_good &= is_met | (requests.traffic_class != name)
    return is_good
