"""Measured runs of prefill and decode on replicas of their own, predicted with what aggregated rows say of the engine.

No such run is ever fitted: the correction is the one that an aggregated row of the same engine, GPU and model gets from
its relatives. What the rows do not tell is assumed as a scenario does it that does not say: KV over links of 25 GB/s.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from reference.engine import EngineSettings
from sim.experiment.schema import Disaggregated
from sim.fidelity.closed_loop import Loop
from sim.fidelity.correction import Correction, Drive, Fits, inherited
from sim.fidelity.disaggregated_loop import Ranks, Transfer, fly_disaggregated
from sim.fidelity.disaggregated_rows import DisaggregatedRow, Side, profile_of
from sim.fidelity.harness import BLOCK, SEED, SHORTEST, WHOLE_PROMPTS
from sim.fidelity.prediction import Predicted
from sim.fidelity.rows import family_of
from sim.fidelity.scoreboard import Line, line

KV_BYTES_PER_TOKEN: Final = {"DeepSeek-R1": 61 * (512 + 64) * 2}
"""All layers of multi-head latent attention: a latent and a rotary key in bf16 (sizes: the model's config.json)."""

_ASSUMED: Final = {name: field.default for name, field in Disaggregated.model_fields.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredApart:
    """A row with what was predicted for it, in seconds; `bare` with operator times alone."""

    row: DisaggregatedRow
    ours: Predicted
    bare: Predicted

    def error(self, measure: str, of: str = "ours") -> float:
        """Predicted / measured - 1."""
        predicted: Predicted = getattr(self, of)
        return predicted.error(measure, self.row)


def predict_apart(row: DisaggregatedRow, correction: Correction) -> Predicted:
    """Fly the row's clients against its workers.

    Raises:
        HardwareError: there are no operator times for a side.
    """
    lengths = (row.input_tokens, row.output_tokens)
    loop = Loop.random(row.concurrency, lengths, SHORTEST.get(row.harness, 1.0), Drive().requests_per_client, SEED)
    loop = replace(loop, request_seconds=correction.request_seconds)
    transfer = Transfer(
        seconds_per_token=KV_BYTES_PER_TOKEN[family_of(row.model)] / (float(_ASSUMED["transfer_gb_per_s"]) * 1e9),
        latency=float(_ASSUMED["transfer_latency"]),
    )
    times = fly_disaggregated(_ranks(row, row.prefill, correction), _ranks(row, row.decode, correction), transfer, loop)
    return Predicted(ttft=times.mean_ttft, tpot=times.mean_tpot)


def score_apart(rows: Iterable[DisaggregatedRow], fits: Fits) -> tuple[ScoredApart, ...]:
    """Predict every row."""
    return tuple(
        ScoredApart(
            row=row,
            ours=predict_apart(row, inherited(row.group, fits).correction),
            bare=predict_apart(row, Correction()),
        )
        for row in rows
    )


def lines_apart(scored: Iterable[ScoredApart]) -> list[Line]:
    """Sum up: all, and by who computes prompts and who decodes."""
    entries = list(scored)
    kinds: dict[str, list[ScoredApart]] = defaultdict(list)
    for entry in entries:
        kinds[f"prefill {entry.row.prefill.layout}, decode {entry.row.decode.layout}"].append(entry)
    whose = ("ours", "bare")
    return [line("all", entries, whose), *(line(what, kinds[what], whose) for what in sorted(kinds))]


def _ranks(row: DisaggregatedRow, side: Side, correction: Correction) -> Ranks:
    profile = profile_of(row, side)
    longest = row.input_tokens + row.output_tokens
    settings = EngineSettings(
        max_num_seqs=side.batch_size,
        max_num_batched_tokens=max(WHOLE_PROMPTS, row.input_tokens + side.batch_size),
        max_model_len=longest,
        block_size=BLOCK,
        num_blocks=-(-max(profile.kv_tokens or 0, longest + BLOCK) // BLOCK),
        prefix_caching=False,
        rules=row.engine,
        chunked_prefill=False,
    )
    return Ranks(count=side.num_ranks, settings=settings, cost=correction.applied_to(profile))
