"""The scoreboard: every row predicted without having been fitted, summed up by engine, by what was held out, by load.

Start at `score`. Errors are predicted / measured - 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from sim.fidelity.correction import Correction, Drive, Fits, Group, Inherited, inherited
from sim.fidelity.prediction import Predicted, predict
from sim.fidelity.rows import Row

BARS: Final = {"tpot": 0.07, "ttft": 0.20}
"""Median absolute errors aimed at on held-out rows."""

BANDS: Final = ((8, "1-8"), (32, "9-32"), (10**9, "33+"))
"""Load bands by requests in flight per data-parallel rank, upper bound and name."""

MEASURES: Final = ("ttft", "tpot", "e2e")


class Judged(Protocol):
    """A row with predictions of it."""

    def error(self, measure: str, of: str) -> float:
        """Predicted / measured - 1; `of` says whose prediction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A row with what was predicted for it by us and by AIConfigurator. Seconds."""

    row: Row
    ours: Predicted
    bare: Predicted
    """Ours with operator times alone: nothing fitted, and no first chunk of several tokens."""
    peer: Predicted | None
    inherited: Inherited

    def error(self, measure: str, of: str = "ours") -> float:
        """Predicted / measured - 1; NaN where the peer has no prediction."""
        predicted: Predicted | None = getattr(self, of)
        return float("nan") if predicted is None else predicted.error(measure, self.row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Errors of one measure over some rows."""

    count: int
    median: float
    """Of absolute errors."""
    p90: float
    bias: float
    """Median of signed errors."""

    @property
    def cell(self) -> str:
        """As a table has it, in per cent: median / p90 / bias."""
        if not self.count:
            return "–"
        return f"{self.median * 100:.1f} / {self.p90 * 100:.0f} / {self.bias * 100:+.0f}"

    @property
    def figures(self) -> dict[str, float | int]:
        """As JSON has it, rounded to what matters."""
        return {
            "rows": self.count,
            "median": round(self.median, 4),
            "p90": round(self.p90, 4),
            "bias": round(self.bias, 4),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the scoreboard."""

    what: str
    count: int
    ours: Mapping[str, Summary]
    bare: Mapping[str, Summary]
    peer: Mapping[str, Summary] = field(default_factory=dict)
    """Empty where the peer predicts none of the rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Whether the same configuration is picked: most tokens/s per GPU among those with TPOT within a bound."""

    contests: int
    same: int
    within_five_percent: int
    """Contests in which the pick's measured figure is within 5 % of the best's."""
    median_loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoreboard:
    """All of it."""

    scored: tuple[Scored, ...]
    lines: tuple[Line, ...]
    rankings: Mapping[str, Ranking]
    left_out: Mapping[str, int]


def score(
    rows: Iterable[Row],
    fits: Fits,
    left_out: Mapping[str, int] | None = None,
    told: Callable[[int], None] = lambda _: None,
) -> Scoreboard:
    """Predict every row from its group's relatives and sum up."""
    found: list[Scored] = []
    known: dict[Group, Inherited] = {}
    for row in rows:
        if row.group not in known:
            known[row.group] = inherited(row.group, fits)
        heritage = known[row.group]
        peer = None
        if row.peer_ttft is not None and row.peer_tpot is not None:
            peer = Predicted(ttft=row.peer_ttft, tpot=row.peer_tpot)
        found.append(
            Scored(
                row=row,
                ours=predict(row, heritage.correction, heritage.drive),
                bare=predict(row, Correction(), Drive(), with_streaming=False),
                peer=peer,
                inherited=heritage,
            )
        )
        told(len(found))
    scored = tuple(found)
    return Scoreboard(
        scored=scored,
        lines=tuple(_lines(scored)),
        rankings={of: ranking(scored, of) for of in ("ours", "bare", "peer")},
        left_out=left_out or {},
    )


def summary(errors: Sequence[float]) -> Summary:
    """Sum up relative errors."""
    held = np.array([error for error in errors if np.isfinite(error)])
    if not held.size:
        return Summary(count=0, median=float("nan"), p90=float("nan"), bias=float("nan"))
    absolute = np.abs(held)
    return Summary(
        count=int(held.size),
        median=float(np.median(absolute)),
        p90=float(np.quantile(absolute, 0.9)),
        bias=float(np.median(held)),
    )


def ranking(scored: Iterable[Scored], of: str, tpot_bound: float = 0.03) -> Ranking:
    """Let `of` pick a configuration (parallelism and concurrency) per GPU, engine, model and lengths."""
    contests: dict[tuple[object, ...], list[Scored]] = defaultdict(list)
    for entry in scored:
        row = entry.row
        contests[(*row.group, row.input_tokens, row.output_tokens)].append(entry)
    losses: list[float] = []
    same = 0
    for entries in contests.values():
        able = [entry for entry in entries if entry.row.tpot <= tpot_bound]
        if len({entry.row.layout for entry in able}) < 2:
            continue
        best = max(able, key=_measured_throughput)
        pick = max(
            (entry for entry in able if getattr(entry, of) is not None),
            key=lambda entry: (getattr(entry, of).tpot <= tpot_bound, _throughput(entry.row, getattr(entry, of))),
        )
        losses.append(1 - _measured_throughput(pick) / _measured_throughput(best))
        same += _choice(pick) == _choice(best)
    return Ranking(
        contests=len(losses),
        same=same,
        within_five_percent=sum(loss <= 0.05 for loss in losses),
        median_loss=float(np.median(losses)) if losses else float("nan"),
    )


def _choice(entry: Scored) -> tuple[object, ...]:
    return entry.row.layout, entry.row.concurrency


def _throughput(row: Row, times: Predicted) -> float:
    """Output tokens per second and GPU of a closed loop."""
    in_flight = row.concurrency * row.data_parallel
    return in_flight * row.output_tokens / times.e2e(row.output_tokens) / row.num_gpus


def _measured_throughput(entry: Scored) -> float:
    return _throughput(entry.row, Predicted(ttft=entry.row.ttft, tpot=entry.row.tpot))


def _lines(scored: Sequence[Scored]) -> Iterable[Line]:
    yield line("all", scored)
    for name in ("published", "unpublished"):
        yield line(f"harness {name}", [entry for entry in scored if entry.row.harness == name])
    for engine in sorted({entry.row.engine for entry in scored}):
        of_engine = [entry for entry in scored if entry.row.engine == engine]
        yield line(engine, of_engine)
        for held_out in ("GPU", "model"):
            held = [entry for entry in of_engine if entry.inherited.held_out == held_out]
            if held:
                yield line(f"{engine}, {held_out} held out", held)
        for low, (high, band) in zip((0, *(bound for bound, _ in BANDS)), BANDS, strict=False):
            held = [entry for entry in of_engine if low < entry.row.concurrency <= high]
            yield line(f"{engine}, {band} in flight", held)
    for group in sorted({entry.row.group for entry in scored}):
        held = [entry for entry in scored if entry.row.group == group]
        engine, gpu, family, harness = group
        yield line(f"{engine} {gpu} {family} ({harness}; {held[0].inherited.held_out} held out)", held)


def line(what: str, scored: Sequence[Judged], whose: Sequence[str] = ("ours", "bare", "peer")) -> Line:
    """Sum up rows."""
    by = {
        of: {measure: summary([entry.error(measure, of) for entry in scored]) for measure in MEASURES} for of in whose
    }
    return Line(what=what, count=len(scored), **by)
