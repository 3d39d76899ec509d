"""One replica under rising load: BurstGPT's vLLM logs. The lightest run is fitted, the heavier ones are predicted.

The same 500 requests were played at four speeds against Llama-3.2-1B on a GPU that is not named. Neither are the output
tokens: the logs count characters of prompt and answer together. But an answer ends at 1,024 tokens at the latest, and a
good half of them did. A step of a + b·B seconds makes n = ∫ dt / (a + b·B(t)) tokens of an answer; B, who else decoded,
the instants tell. b/a is where a third of the n lie closest together, and 1,024 is where they lie. That gives a, b and
every n from the lightest run alone. So only the shape is judged: how latency grows with load.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

import numpy as np

from reference.engine import EngineSettings, StepCost
from sim.fidelity.closed_loop import Times, fly_arrivals

SPEEDS: Final = (100, 500, 1000, 2000)
"""How many times faster than recorded; the first is fitted."""
MOST_TOKENS: Final = 1024
RATIOS: Final = np.linspace(0.0, 0.3, 151)
CLOSE_SHARE: Final = 1 / 3
FEW_DECODING: Final = 5
"""Up to so many, TTFT is that of a prompt alone."""
SETTINGS: Final = EngineSettings(
    max_num_seqs=256, max_num_batched_tokens=2048, max_model_len=4096, num_blocks=30_000, prefix_caching=False
)
"""vLLM's defaults; blocks of a 24 GB GPU beside a model of 1B, which are never all taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as measured: a value a request in order of sending, seconds from the first."""

    speed: int
    events: tuple[int, ...]
    sent: np.ndarray
    input_tokens: np.ndarray
    ttft: np.ndarray
    e2e: np.ndarray

    @property
    def per_second(self) -> float:
        """Requests sent per second."""
        return len(self.sent) / float(np.ptp(self.sent))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the lightest run says: of a step, and of every answer by event."""

    cost: StepCost
    request_seconds: float
    output_tokens: dict[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturation:
    """A run predicted. Seconds, (measured, predicted) by measure: means of TTFT and E2E, and until the last token."""

    speed: int
    per_second: float
    is_fitted: bool
    seconds: dict[str, tuple[float, float]]

    def error(self, measure: str) -> float:
        """Predicted / measured - 1."""
        measured, predicted = self.seconds[measure]
        return predicted / measured - 1


def saturations() -> tuple[Saturation, ...]:
    """Fit the lightest run and predict all of them."""
    runs = [_read(speed) for speed in SPEEDS]
    shape = fit(runs[0])
    return tuple(_predicted(run, shape, run is runs[0]) for run in runs)


def fit(run: Run) -> Shape:
    """Read the step cost and the answers' lengths off one run."""
    first, last = run.sent + run.ttft, run.sent + run.e2e
    instants = np.unique(np.concatenate([first, last]))
    middle, widths = (instants[1:] + instants[:-1]) / 2, np.diff(instants)
    decodes = (first[:, None] <= middle) & (last[:, None] > middle)
    decoding = decodes.sum(axis=0)

    weight = decodes.astype(float)

    def steps(ratio: float) -> np.ndarray:
        return np.asarray(weight @ (widths / (1.0 + ratio * decoding)))

    ratio = float(min(RATIOS, key=lambda at: _closest(steps(at))[0]))
    base = _closest(steps(ratio))[1] / MOST_TOKENS
    tokens = np.clip(np.round(steps(ratio) / base) + 1, 1, MOST_TOKENS).astype(int)
    alone = decoding[np.searchsorted(instants[1:-1], run.sent)] <= FEW_DECODING
    design = np.stack([np.ones(int(alone.sum())), run.input_tokens[alone]], axis=1)
    (fixed, per_token), *_ = np.linalg.lstsq(design, run.ttft[alone], rcond=None)
    return Shape(
        cost=StepCost.linear(base, max(0.0, float(per_token)), ratio * base),
        # a prompt's own step, and on average half of the one that runs when it comes
        request_seconds=max(0.0, float(fixed) - 1.5 * base),
        output_tokens=dict(zip(run.events, map(int, tokens), strict=True)),
    )


def _closest(values: np.ndarray) -> tuple[float, float]:
    """Where `CLOSE_SHARE` of the values lie closest together: the relative width of that window, and its median."""
    ascending = np.sort(values)
    count = int(len(values) * CLOSE_SHARE)
    widths = 1.0 - ascending[:-count] / np.maximum(ascending[count:], 1e-12)
    start = int(np.argmin(widths))
    return float(widths[start]), float(np.median(ascending[start : start + count + 1]))


def _predicted(run: Run, shape: Shape, is_fitted: bool) -> Saturation:
    lengths: Sequence[int] = [shape.output_tokens[event] for event in run.events]
    prompts = run.input_tokens.astype(int).tolist()
    times: Times = fly_arrivals(SETTINGS, shape.cost, run.sent.tolist(), prompts, lengths, shape.request_seconds)
    return Saturation(
        speed=run.speed,
        per_second=run.per_second,
        is_fitted=is_fitted,
        seconds={
            "ttft": (float(run.ttft.mean()), times.mean_ttft),
            "e2e": (float(run.e2e.mean()), float(times.e2e.mean())),
            "all": (float((run.sent + run.e2e).max()), float((run.sent + times.e2e).max())),
        },
    )


def _read(speed: int) -> Run:
    packed = resources.files(__package__).joinpath(f"data/burstgpt/scale{speed}.csv.gz").read_bytes()
    rows = list(csv.DictReader(gzip.decompress(packed).decode("utf-8").splitlines()))

    def column(name: str) -> np.ndarray:
        return np.array([float(row[name]) for row in rows])

    return Run(
        speed=speed,
        events=tuple(int(row["event"]) for row in rows),
        sent=column("sent_s"),
        input_tokens=column("input_tokens"),
        ttft=column("ttft_s"),
        e2e=column("e2e_s"),
    )
