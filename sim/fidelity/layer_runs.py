"""Whole runs of vLLM, request by request, flown with the layer times of the card they ran on.

LLMServingSim 2 published two: 300 ShareGPT requests at 10/s, more than either card can serve, so the queue grows and an
error in the step time shows several times larger in TTFT. Layer times hold no host time: decode steps, which run as one
graph under asynchronous scheduling, hide it, but a step that carries a prompt starts its attention kernels one by one.
That one number is fitted on the first requests of the run and judged on the others; the figures without it are beside.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources
from typing import Final

import numpy as np

from reference.engine import EngineSettings, StepCost
from sim.fidelity.closed_loop import Times, fly_arrivals
from sim.hardware.layers import profile_from_layers

FITTED_SHARE: Final = 0.2
"""Of the requests, by arrival: what the host's overhead is fitted on."""
OVERHEADS: Final = tuple(step * 0.0005 for step in range(25))
MEASURES: Final = ("ttft", "tpot", "e2e")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRun:
    """A run and the engine it was of. The model is Llama-3.1-8B in bf16."""

    card: str
    max_num_seqs: int
    num_blocks: int
    blocks_from: str
    context_skew: float = 0.0
    """What the card's profile says of sequences of unequal length (`alpha_default` in its meta.yaml); 0: not measured.
    An attention kernel that does not split a sequence ends with its longest one."""


RUNS: Final = (
    LayerRun(card="RTX4090", max_num_seqs=256, num_blocks=2588, blocks_from="the engine's log"),
    LayerRun(
        card="RTXPRO6000", max_num_seqs=128, num_blocks=34_680, blocks_from="memory; never filled", context_skew=0.0543
    ),
)
NUM_LAYERS: Final = 32
BUDGET: Final = 2048
BLOCK: Final = 16
MAX_MODEL_LEN: Final = 32_768


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerResult:
    """Relative errors (predicted / measured - 1) by measure, at the mean and at p99."""

    card: str
    overhead: float
    """Seconds of host time per step that carries a prompt."""
    errors: dict[str, dict[str, float]]


def results(run: LayerRun) -> tuple[LayerResult, LayerResult]:
    """Fly a run: with layer times alone on all requests, and with the fitted overhead on those not used to fit."""
    arrivals, lengths, measured = _measured(run)
    cost = _cost(run)
    settings = EngineSettings(
        max_num_seqs=run.max_num_seqs,
        max_num_batched_tokens=BUDGET,
        max_model_len=MAX_MODEL_LEN,
        num_blocks=run.num_blocks,
    )

    def flown(overhead: float) -> Times:
        return fly_arrivals(settings, replace(cost, mixed_overhead=cost.mixed_overhead + overhead), arrivals, *lengths)

    split = int(len(arrivals) * FITTED_SHARE)

    def misfit(overhead: float) -> float:
        predicted = flown(overhead)
        return abs(float(predicted.e2e[:split].mean() / measured.e2e[:split].mean()) - 1)

    best = min(OVERHEADS, key=misfit)
    return (
        LayerResult(card=run.card, overhead=0.0, errors=_errors(flown(0.0), measured, 0)),
        LayerResult(card=run.card, overhead=best, errors=_errors(flown(best), measured, split)),
    )


def _errors(predicted: Times, measured: Times, first: int) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for measure in MEASURES:
        ours, theirs = getattr(predicted, measure)[first:], getattr(measured, measure)[first:]
        found[measure] = {
            "mean": float(ours.mean() / theirs.mean() - 1),
            "p50": float(np.quantile(ours, 0.5) / np.quantile(theirs, 0.5) - 1),
            "p99": float(np.quantile(ours, 0.99) / np.quantile(theirs, 0.99) - 1),
        }
    return found


def _measured(run: LayerRun) -> tuple[list[float], tuple[list[int], list[int]], Times]:
    rows = list(_table(run.card, "requests"))
    arrivals = [float(row["queued_s"]) for row in rows]
    lengths = [int(row["input_tokens"]) for row in rows], [int(row["output_tokens"]) for row in rows]
    first, last = (np.array([float(row[name]) for row in rows]) for name in ("first_token_s", "last_token_s"))
    sent = np.array(arrivals)
    times = Times(ttft=first - sent, tpot=(last - first) / (np.array(lengths[1]) - 1), e2e=last - sent)
    return arrivals, lengths, times


def _cost(run: LayerRun) -> StepCost:
    return profile_from_layers(
        _table(run.card, "dense"),
        _table(run.card, "per_sequence"),
        _table(run.card, "attention"),
        num_layers=NUM_LAYERS,
        name=run.card,
        source="LLMServingSim 2",
        most_context=run.num_blocks * BLOCK,
        context_skew=run.context_skew,
    ).cost


def _table(card: str, name: str) -> Iterator[dict[str, str]]:
    packed = resources.files(__package__).joinpath(f"data/llmservingsim/{card}/{name}.csv.gz").read_bytes()
    return csv.DictReader(gzip.decompress(packed).decode("utf-8").splitlines())
