"""`windtunnel plan`: the cheapest cluster that meets every SLO of a scenario, with what stands behind the answer."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2e.shipped import find_scenario

if TYPE_CHECKING:
    from sim.capacity.planning import Answer
    from sim.capacity.search import Candidate, Probe

NOTHING_MEETS = 1


def plan(
    scenario: Annotated[str, typer.Argument(help="a scenario file, or the name of a shipped one")],
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key, as in replay; repeatable")
    ] = None,
    spare: Annotated[int, typer.Option(help="replicas that must be dispensable (N-1: 1)", min=0)] = 0,
    resume: Annotated[
        Path | None, typer.Option(help="a file that keeps every flight; a search that was killed goes on from it")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="write the answer as JSON here")] = None,
) -> None:
    """Find the cheapest cluster that meets every SLO class of a scenario at its attainment.

    Varies what the scenario's `plan` block allows (default: up to 64 replicas on each of four GPU kinds): for each kind
    the number of replicas is bracketed and bisected; each candidate is decided by confidence bounds on common random
    numbers, and the answer is flown again on fresh seeds. Exit 1 when nothing in the space meets the SLOs.

    windtunnel plan first_flight

    windtunnel plan my.yaml --set 'plan={vary: {gpu: [l40s, h100-sxm], tensor_parallel: [1, 2], replicas: 1..16}}'
    """
    from rich.console import Console

    from sim.capacity.planning import plan as search
    from sim.experiment.scenario import load

    loaded = load(find_scenario(scenario), override or ())
    began = time.monotonic()
    progress = Console(stderr=True)
    show = progress.is_terminal

    def told(candidate: Candidate, probe: Probe, flights: int) -> None:
        if show:
            shares = ", ".join(f"{c.name} {c.attainment:.1%}" for c in probe.classes)
            progress.print(
                f"flight {flights}: {candidate.replicas} x {candidate.option.label}: {shares}", highlight=False
            )

    answer = search(loaded, lost=spare, journal_path=resume, told=told)
    _tell(answer, Console(), time.monotonic() - began)
    if out is not None:
        out.write_text(json.dumps(_as_json(answer), indent=1) + "\n")
    if answer.best is None:
        raise typer.Exit(NOTHING_MEETS)


def _tell(answer: Answer, console: Any, seconds: float) -> None:
    from rich.table import Table

    console.print(f"[bold]{answer.sentence}[/bold]", highlight=False)
    if answer.best is not None:
        console.print(answer.binding, highlight=False)
        if answer.best.is_close:
            console.print("It is a close call: the confidence bounds did not part from the target.")
    table = Table("option", "replicas", "at least", "price/h", "good", "tokens/s", "tokens/s/user", "meets")
    for row in answer.rows():
        shares = ", ".join(f"{name} {share:.1%}" for name, share in row["attainment"].items())
        table.add_row(
            row["option"],
            str(row["replicas"]),
            str(row["perfect_replicas"]),
            f"{row['price']:.2f}",
            shares,
            f"{row.get('output_tokens_per_second', 0):,.0f}",
            f"{row.get('tokens_per_second_per_user', 0):.0f}",
            row["finding"] + (" (close)" if row["is_close"] else ""),
        )
    console.print(table)
    for skipped in answer.skipped:
        console.print(f"not flown: {skipped.option.label}: {skipped.reason}", highlight=False)
    console.print(
        f"{answer.num_flights} flights in {seconds:.1f} s. `at least`: what even a perfect system would need."
    )


def _as_json(answer: Answer) -> dict[str, Any]:
    best = answer.best.candidate if answer.best else None
    return {
        "sentence": answer.sentence,
        "binding": answer.binding if best else None,
        "best": {"settings": dict(best.option.settings), "replicas": best.replicas, "price": best.price}
        if best
        else None,
        "minimise": answer.minimise,
        "spare": answer.lost,
        "candidates": answer.rows(),
        "not_flown": [{"option": s.option.label, "reason": s.reason} for s in answer.skipped],
    }
