"""The scoreboard as Markdown and as JSON: what is committed, and what a test holds new runs against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sim.fidelity import disaggregated_table
from sim.fidelity.disaggregated import ScoredApart
from sim.fidelity.layer_runs import LayerResult
from sim.fidelity.saturation import Saturation
from sim.fidelity.scoreboard import BARS, MEASURES, Line, Ranking, Scoreboard

MEAN_BAR: Final = 0.02
TAIL_BAR: Final = 0.05

PEERS: Final = (
    ("AIConfigurator 0.12", "the same rows", "beside ours in every line"),
    ("BLIS", "its own data", "claims E2E 6.7 %, TTFT 17.6 %, ITL 7.1 %"),
    ("LLMServingSim 2", "the two runs below", "0.3 to 0.9 % on the RTX 4090, 4.0 % TTFT on the RTX PRO 6000"),
    ("Vidur", "its own data", "claims 9 %; users measured 700 % on a current vLLM"),
)

LEGEND: Final = """\
Made by `windtunnel fidelity --out`; do not edit. Errors are predicted / measured - 1 in per cent: median of absolute
errors / 90th percentile / bias (median, signed). No row is predicted with a correction that was fitted to its own GPU
and model: either its model was fitted on another GPU (*GPU held out*), or its engine with other models (*model held
out*). What an unpublished harness did, and which scales are carried from other models, is told by those, too. `bare`:
operator times alone. `AIC`: AIConfigurator's own prediction of the same rows. E2E is TTFT + TPOT times the tokens that
follow, measured and predicted alike.
"""

SKEW: Final = """\
Attention's closed form is fitted up to the context that the card's KV cache holds. Where a card's profile says how much
attention waits for the longest sequence of a batch (RTX PRO 6000: 0.0543, RTX 4090: not measured), a step does. Without
that, the RTX PRO 6000's mean TTFT is 12 % too short; with the other card's figure, the RTX 4090's 3 % too long.
"""

LOADS: Final = """\
BurstGPT's logs of vLLM: 500 conversations with Llama-3.2-1B, played at four speeds. Step cost and answers' lengths,
which the logs do not hold, are read off the lightest run (see `sim.fidelity.saturation`). Only the shape counts.
"""

WHY: Final = """\
**Where a bar is missed, why**

- *The bars are about what these rows can be fitted to.* Groups with a model held out, each with the correction fitted
  to itself: TensorRT-LLM TPOT 6.0 %, TTFT 20 %; vLLM 5.0 %, 11 % (every second row). A held-out model does no better.
- *Another engine version than the tables'.* Operator times are those of vLLM 0.24 and TensorRT-LLM 1.3.0rc20; the rows
  are of vLLM 0.11 to 0.18 and TensorRT-LLM 1.0 to 1.3. A scale fitted on another GPU carries that over (see the lines
  with a GPU held out); one fitted on other models mostly does not, because kernels of other kinds have aged otherwise:
  the scale of decode steps is 0.7 to 1.5 in vLLM's groups. There are no TensorRT-LLM times of gpt-oss; vLLM's stand in.
- *What unpublished harnesses did.* How prompts are chunked and how many requests a client sends decides TTFT by itself;
  both are read off relatives. TensorRT-LLM's rows of Llama-3.1-8B had one client more than seats: of 512 instead of
  128 output tokens TTFT grows by 0.9 of an E2E / concurrency, and by none with other models. No relative tells that.
- *Prompts that were hardly computed.* vLLM's rows of Llama-3.1-8B on H200 take up to 100 % of the GPU's peak if every
  prompt was computed; with prefixes cached, or fewer in flight than stated, they take less.
- *KV capacity is not in the rows.* Where it binds, TTFT is the length of a queue, and a guess of 10 % less memory is
  several times that in TTFT. These rows make the p90.
- *Nine rows of 512 in flight* were measured with about a hundred running at a time, by a limit that is not in them.
- *One setting is read off the rows it is used for.* DeepSeek's first chunk under TensorRT-LLM has ten tokens here, as
  its script streams; by the source none is held back, and other models' rows show none. Without it DeepSeek's TTFT
  misses by 44 %, Llama-3.1-70B's, which inherits from it, by 46 %, and that of all rows by 23 %.
- *A time per prompt that grows with the GPUs.* gpt-oss on TensorRT-LLM and H200 takes some 0, 35, 50 and 70 ms longer
  to a first token than the prompt's step does, on 1, 2, 4 and 8 GPUs (1,024 tokens, four in flight). No relative has
  that.
- *Five rows of gpt-oss on TensorRT-LLM 1.3* take 47 to 60 ms a token, at 40 in flight as at 96; on H200 it is 9 to 22.
- *Rank agreement.* What is fitted for latency does not help to pick: bare operator times pick as well.
"""


def markdown(
    board: Scoreboard, runs: Sequence[LayerResult], loads: Sequence[Saturation], apart: Sequence[ScoredApart]
) -> str:
    """Write the scoreboard for reading."""
    total, missing = len(board.scored), sum(board.left_out.values())
    parts = [
        "# How right the simulator is\n",
        LEGEND,
        f"{total} rows flown, {missing} left out: "
        + "; ".join(f"{count} {reason}" for reason, count in board.left_out.items())
        + ".\n",
        _bars(board),
        _table(board.lines),
        "## Which configuration is best\n",
        "Most tokens/s per GPU with TPOT within 30 ms, among all parallelisms and concurrencies measured for the same "
        "engine, GPU, model and lengths.\n",
        _rankings(board),
        "## Whole runs, with the layer times of their own card\n",
        "vLLM 0.19, Llama-3.1-8B, 300 requests at 10/s (saturated). Bars: means within 2 %, p99 within 5 %. The second "
        "line of a card has host time per step that carries a prompt, fitted on the first fifth of the requests and "
        "judged on the others.\n",
        _runs(runs),
        SKEW,
        *([disaggregated_table.markdown(apart)] if apart else []),
        "## Rising load, on a GPU that is not named\n",
        LOADS,
        _loads(loads),
        "## Peers\n",
        "| | on | error |\n|---|---|---|\n" + "".join(f"| {' | '.join(peer)} |\n" for peer in PEERS),
        WHY,
    ]
    return "\n".join(parts)


def as_json(
    board: Scoreboard, runs: Sequence[LayerResult], loads: Sequence[Saturation], apart: Sequence[ScoredApart]
) -> dict[str, Any]:
    """Give the scoreboard's figures as JSON values, rounded to what matters."""
    return {
        "left_out": dict(board.left_out),
        "lines": [
            {
                "what": line.what,
                "rows": line.count,
                **{
                    of: {measure: getattr(line, of)[measure].figures for measure in MEASURES}
                    for of in ("ours", "bare", "peer")
                },
            }
            for line in board.lines
        ],
        "rankings": {of: _ranking(found) for of, found in board.rankings.items()},
        "layer_runs": [
            {
                "card": run.card,
                "overhead_seconds": run.overhead,
                "errors": {m: {at: round(error, 4) for at, error in of.items()} for m, of in run.errors.items()},
            }
            for run in runs
        ],
        "disaggregated": disaggregated_table.as_json(apart) if apart else {},
        "rising_load": [
            {
                "speed": load.speed,
                "per_second": round(load.per_second, 2),
                "fitted": load.is_fitted,
                "errors": {measure: round(load.error(measure), 4) for measure in load.seconds},
            }
            for load in loads
        ],
    }


def _bars(board: Scoreboard) -> str:
    lines = ["| bar | all rows | GPU held out | model held out |", "|---|---|---|---|"]
    for measure, bar in BARS.items():
        cells = [f"{measure.upper()} median within {bar:.0%}"]
        for wanted in (None, "GPU", "model"):
            errors = [
                abs(entry.error(measure))
                for entry in board.scored
                if wanted is None or entry.inherited.held_out == wanted
            ]
            if not errors:
                cells.append("no rows")
                continue
            median = sorted(errors)[len(errors) // 2]
            cells.append(f"{median:.1%}, {'met' if median <= bar else 'missed'} ({len(errors)} rows)")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _table(lines: Sequence[Line]) -> str:
    head = "| | rows | TTFT | bare | AIC | TPOT | bare | AIC | E2E | bare | AIC |\n" + "|---" * 11 + "|\n"
    return head + "".join(
        f"| {line.what} | {line.count} | "
        + " | ".join(
            f"{line.ours[measure].cell} | {line.bare[measure].cell} | {line.peer[measure].cell}" for measure in MEASURES
        )
        + " |\n"
        for line in lines
    )


def _rankings(board: Scoreboard) -> str:
    head = "| | contests | same pick | within 5 % of the best | median loss |\n|---|---|---|---|---|\n"
    names = {"ours": "ours", "bare": "bare", "peer": "AIC"}
    return head + "".join(
        f"| {names[of]} | {r.contests} | {r.same} | {r.within_five_percent} | {r.median_loss:.1%} |\n"
        for of, r in board.rankings.items()
    )


def _runs(runs: Sequence[LayerResult]) -> str:
    head = "| card | host ms | TTFT mean / p99 | TPOT mean / p99 | E2E mean / p99 | bars |\n|---|---|---|---|---|---|\n"
    return head + "".join(
        f"| {run.card} | {run.overhead * 1e3:.1f} | "
        + " | ".join(f"{run.errors[m]['mean']:+.1%} / {run.errors[m]['p99']:+.1%}" for m in MEASURES)
        + f" | {'met' if meets(run) else 'missed'} |\n"
        for run in runs
    )


def _loads(loads: Sequence[Saturation]) -> str:
    head = "| sent per second | mean TTFT | predicted | mean E2E | predicted | last token at | predicted | |\n"
    return (
        head
        + "|---" * 8
        + "|\n"
        + "".join(
            f"| {load.per_second:.1f} | "
            + " | ".join(
                f"{load.seconds[measure][0]:.3g} s | {load.seconds[measure][1]:.3g} s ({load.error(measure):+.0%})"
                for measure in ("ttft", "e2e", "all")
            )
            + f" | {'fitted' if load.is_fitted else 'predicted'} |\n"
            for load in loads
        )
    )


def meets(run: LayerResult) -> bool:
    """Whether a run's means and p99 are within the bars."""
    return all(abs(of["mean"]) <= MEAN_BAR and abs(of["p99"]) <= TAIL_BAR for of in run.errors.values())


def _ranking(found: Ranking) -> dict[str, float | int]:
    return {
        "contests": found.contests,
        "same": found.same,
        "within_five_percent": found.within_five_percent,
        "median_loss": round(found.median_loss, 4),
    }
