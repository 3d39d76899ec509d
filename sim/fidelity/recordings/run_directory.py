"""A run of `windtunnel replay`, of any rung: what one of its replicas served whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sim.experiment.errors import InputError
from sim.experiment.record import RunRecord
from sim.fidelity.observed import Observed, Recording


def read(path: Path, replica: str | None = None) -> Recording:
    """Read a run; of several replicas the named one, or the one with most requests.

    Raises:
        InputError: there is no run, or no such replica in it.
    """
    from sim.experiment.store import read as read_run

    return of_record(read_run(path), replica)


def of_record(record: RunRecord, replica: str | None = None) -> Recording:
    """Take what one replica served whole.

    Raises:
        InputError: there is no such replica.
    """
    table: dict[str, Any] = record.requests
    endpoints = [str(name) for name in table["endpoint"]]
    named = sorted({name for name in endpoints if name})
    chosen = replica or (max(named, key=endpoints.count) if named else "")
    if replica is not None and replica not in named:
        raise InputError(f"--replica {replica}: served nothing; expected one of {', '.join(named) or 'none: no names'}")
    whole = [
        number
        for number, status in enumerate(table["status"])
        if status == "ok" and endpoints[number] in ("", chosen) and table["output_tokens"][number] >= 1
    ]
    whole.sort(key=lambda number: table["sent"][number])

    def column(name: str) -> np.ndarray:
        return np.array([table[name][number] or 0 for number in whole], dtype=float)

    sent, first, last, output = (column(name) for name in ("sent", "first_token", "last_token", "output_tokens"))
    gaps = output - 1
    measured = Observed(
        sent=sent,
        input_tokens=column("input_tokens"),
        output_tokens=output,
        ttft=first - sent,
        tpot=np.divide(last - first, gaps, out=np.full(len(whole), np.nan), where=gaps > 0),
        cached_tokens=column("cached_tokens"),
    )
    return Recording(
        what=f"{len(whole)} requests of {chosen or 'the endpoint'} ({record.rung})",
        measured=measured,
    )
