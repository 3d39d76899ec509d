"""Readers of recorded streams: Azure CSV, Mooncake JSONL, BurstGPT CSV, ServeGen samples.

Each reads rows to a common form (`rows`) and accounts for every row it drops. Start at `read_trace`.
"""

from sim.experiment.traces.rows import TraceRows, read_trace

__all__ = ["TraceRows", "read_trace"]
