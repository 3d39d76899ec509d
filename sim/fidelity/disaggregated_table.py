"""The scoreboard's section on prefill and decode apart, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sim.fidelity.disaggregated import ScoredApart, lines_apart
from sim.fidelity.disaggregated_rows import read_disaggregated
from sim.fidelity.scoreboard import MEASURES, Line

ABOUT: Final = """\
DeepSeek-R1 in fp8 on H200, TensorRT-LLM under Dynamo 0.8.1, closed loop, up to 3,584 in flight on 72 GPUs. The first of
two figures has the correction that an aggregated row of this engine, GPU and model gets from other models, `bare` has
operator times alone. KV goes over 25 GB/s a link, as in a scenario that does not say. AIConfigurator has no prediction
of these rows.
"""

WHY: Final = """\
These engines are slower than the tables (bare TPOT is too short throughout) where the aggregated ones that the
correction was fitted to are faster, so it makes things worse; fitted to the aggregated rows of this very model (decode
times 0.83), it does so, too. With few in flight a TTFT of 0.6 to 0.9 s was measured for prompts that are computed in
0.04 s: a time of the router and of fetching KV that no row tells. Where the queue for prefill makes the TTFT, bare
operator times are within some per cent, or, close to what prefill can do, off by a factor.
"""


def markdown(scored: Sequence[ScoredApart]) -> str:
    """Write the section for reading."""
    _, left_out = read_disaggregated()
    reasons = "; ".join(f"{count} {reason}" for reason, count in left_out.items())
    head = "| | rows | TTFT | bare | TPOT | bare | E2E | bare |\n" + "|---" * 8 + "|\n"
    lines = "".join(f"| {line.what} | {line.count} | {_cells(line)} |\n" for line in lines_apart(scored))
    flown = f"{len(scored)} rows flown, {sum(left_out.values())} left out: {reasons}.\n"
    return "\n".join(["## Prefill and decode on replicas of their own\n", ABOUT, flown, head + lines, WHY])


def as_json(scored: Sequence[ScoredApart]) -> dict[str, Any]:
    """Give the section's figures as JSON values."""
    _, left_out = read_disaggregated()
    return {
        "left_out": left_out,
        "lines": [
            {
                "what": line.what,
                "rows": line.count,
                **{
                    of: {measure: getattr(line, of)[measure].figures for measure in MEASURES} for of in ("ours", "bare")
                },
            }
            for line in lines_apart(scored)
        ],
    }


def _cells(line: Line) -> str:
    return " | ".join(f"{line.ours[measure].cell} | {line.bare[measure].cell}" for measure in MEASURES)
