"""How busy this machine was while a run flew on it: a busy machine measures itself."""

from __future__ import annotations

import os
import time
from pathlib import Path


class CpuBusy:
    """How busy this machine's processors are from `begin` on."""

    def begin(self) -> None:
        """Take the first reading."""
        self._first = _cpu_seconds()
        self._began = time.monotonic()

    def share(self) -> float | None:
        """Return the busy share since `begin`, 0 to 1; None where the kernel does not tell."""
        last = _cpu_seconds()
        if self._first is None or last is None:
            return None
        cores = os.cpu_count() or 1
        return min(1.0, (last - self._first) / max(1e-9, (time.monotonic() - self._began) * cores))


def _cpu_seconds() -> float | None:
    """Return the seconds that all processors were not idle since boot (Linux)."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal = (float(ticks) for ticks in fields)
    return (user + nice + system + irq + softirq + steal) / float(os.sysconf("SC_CLK_TCK"))
