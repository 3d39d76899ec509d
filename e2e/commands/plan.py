"""`windtunnel plan`: the cheapest cluster that meets every SLO of a scenario, with what stands behind the answer."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2e.shipped import find_scenario
from sim.experiment.errors import InputError

if TYPE_CHECKING:
    from sim.capacity.search import Candidate, Probe
    from sim.experiment.scenario import LoadedScenario

NOTHING_MEETS = 1

WIDTH = 110
"""Of what is told to a file or a pipe."""

GPUS = ("l40s", "a100-sxm", "h100-sxm", "h200-sxm")
ASKED = "Ask without a file"


def plan(
    scenario: Annotated[
        str | None, typer.Argument(help="a scenario file, or the name of a shipped one; none: ask with --model")
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key, as in replay; repeatable")
    ] = None,
    spare: Annotated[int, typer.Option(help="replicas of each pool that must be dispensable (N-1: 1)", min=0)] = 0,
    spare_nodes: Annotated[
        int, typer.Option(help="nodes that must be dispensable, with `replicas_per_node` replicas each", min=0)
    ] = 0,
    repeat: Annotated[int, typer.Option(help="ask so many times under other seeds, and tell the spread", min=1)] = 1,
    prices: Annotated[
        Path | None,
        typer.Option(help="YAML with date, source and price_per_hour_usd by GPU (default: the catalogue's)"),
    ] = None,
    within: Annotated[
        float, typer.Option(help="also find the cheapest of options up to so many times the best price", min=1.0)
    ] = 2.0,
    jobs: Annotated[int | None, typer.Option(help="flights at a time (default: one a core)", min=1)] = None,
    ray: Annotated[
        str | None, typer.Option(help="fly on a Ray cluster: its address, `auto`, or `local`", metavar="ADDRESS")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="a file that keeps every flight; a search that was killed goes on from it")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="write the answer as JSON here")] = None,
    html: Annotated[Path | None, typer.Option(help="write the answer as a page with the frontier here")] = None,
    model: Annotated[
        str | None, typer.Option(help="a known model, or the path of a config.json", rich_help_panel=ASKED)
    ] = None,
    rate: Annotated[str | None, typer.Option(help="requests, such as 20/s", rich_help_panel=ASKED)] = None,
    input_tokens: Annotated[int | None, typer.Option(help="mean of a prompt", min=1, rich_help_panel=ASKED)] = None,
    output_tokens: Annotated[int | None, typer.Option(help="mean of an answer", min=1, rich_help_panel=ASKED)] = None,
    ttft: Annotated[str | None, typer.Option(help="SLO, such as 500ms", rich_help_panel=ASKED)] = None,
    tpot: Annotated[str | None, typer.Option(help="SLO, such as 40ms", rich_help_panel=ASKED)] = None,
    e2e: Annotated[str | None, typer.Option(help="SLO, such as 10s", rich_help_panel=ASKED)] = None,
    attainment: Annotated[
        float, typer.Option(help="share of requests that must be good", min=0.01, max=1.0, rich_help_panel=ASKED)
    ] = 0.95,
    gpu: Annotated[
        list[str] | None, typer.Option(help=f"repeatable (default: {', '.join(GPUS)})", rich_help_panel=ASKED)
    ] = None,
    tensor_parallel: Annotated[
        list[int] | None,
        typer.Option(help="GPUs of a replica; repeatable (default: 1 2 4 8)", rich_help_panel=ASKED),
    ] = None,
    max_replicas: Annotated[int, typer.Option(help="of each option", min=1, rich_help_panel=ASKED)] = 64,
    minimise: Annotated[str, typer.Option(help="cost_per_hour or gpus", rich_help_panel=ASKED)] = "cost_per_hour",
) -> None:
    """Find the cheapest cluster that meets every SLO class of a scenario at its attainment.

    Varies what the scenario's `plan` block allows (default: up to 64 replicas on each of four GPU kinds): for each kind
    the number of replicas is bracketed and bisected; each candidate is decided by confidence bounds on common random
    numbers, and the answer is flown again on fresh seeds. Exit 1 when nothing in the space meets the SLOs.

    windtunnel plan first_flight --html plan.html

    windtunnel plan my.yaml --set 'plan={vary: {gpu: \\[l40s, h100-sxm], tensor_parallel: [1, 2], replicas: 1..16}}'

    windtunnel plan my.yaml --set 'plan.vary={max_num_seqs: [64, 256], policy: \\[least_in_flight, prefix_aware]}'

    windtunnel plan --model Llama-3.1-8B-Instruct --rate 20/s --input-tokens 1200 --output-tokens 250 --ttft 500ms
    --tpot 40ms
    """
    from rich.console import Console

    from e2e.commands.plan_told import as_json, tell
    from sim.capacity.crew import hands_for
    from sim.capacity.planning import plan as search
    from sim.capacity.price import read_prices
    from sim.capacity.repeats import repeated
    from sim.capacity.space import Spare
    from sim.experiment.scenario import load

    for path in (out, html):
        if path is not None:
            _writable(path)
    asked = {"--model": model, "--rate": rate, "--input-tokens": input_tokens, "--output-tokens": output_tokens}
    slos = {"--ttft": ttft, "--tpot": tpot, "--e2e": e2e}
    if scenario is None:
        lengths = (input_tokens or 0, output_tokens or 0)
        space = (tuple(gpu or GPUS), tuple(tensor_parallel or ()), max_replicas)
        loaded = _ask(asked, slos, lengths, attainment, space, minimise, override or ())
    else:
        given = [name for name, value in (asked | slos).items() if value is not None]
        if given:
            raise InputError(f"plan: {given[0]} asks without a file, but {scenario} was given; expected one of the two")
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

    ask = partial(
        search,
        spare=Spare(spare, spare_nodes),
        prices=None if prices is None else read_prices(prices),
        journal_path=resume,
        told=told,
        call=hands_for(jobs, ray),
    )
    answer = ask(loaded, within=within, with_headroom=True)
    repeats = repeated(answer, repeat, ask) if repeat > 1 else None
    tell(answer, repeats, Console(width=None if sys.stdout.isatty() else WIDTH), time.monotonic() - began)
    if out is not None:
        _write(out, json.dumps(as_json(answer, repeats), indent=1) + "\n")
    if html is not None:
        from sim.capacity.page import render_plan

        _write(html, render_plan(answer, repeats))
    if answer.choice is None:
        raise typer.Exit(NOTHING_MEETS)


def _ask(
    asked: dict[str, Any],
    slos: dict[str, str | None],
    lengths: tuple[int, int],
    attainment: float,
    space: tuple[tuple[str, ...], tuple[int, ...], int],
    minimise: str,
    override: Any,
) -> LoadedScenario:
    """Turn figures of the command line into a scenario file, and say which."""
    from sim.capacity.question import Question
    from sim.experiment.scenario import load
    from sim.experiment.units import per_second, seconds

    missing = [name for name, value in asked.items() if value is None]
    if missing:
        raise InputError(f"plan: {', '.join(missing)} missing; expected a scenario, or all of {', '.join(asked)}")
    if not any(slos.values()):
        raise InputError("plan: no SLO was given; expected --ttft, --tpot or --e2e, such as --ttft 500ms")
    bounds = {name: None if text is None else _read(name, text, seconds) for name, text in slos.items()}
    question = Question(
        model=asked["--model"],
        rate=_read("--rate", asked["--rate"], per_second),
        input_tokens=lengths[0],
        output_tokens=lengths[1],
        ttft=bounds["--ttft"],
        tpot=bounds["--tpot"],
        e2e=bounds["--e2e"],
        attainment=attainment,
        gpus=space[0],
        tensor_parallel=space[1],
        max_replicas=space[2],
        minimise=minimise,
    )
    path = _free_path(question.name, question.scenario())
    path.write_text(question.scenario(), encoding="utf-8")
    typer.echo(f"scenario: {path}", err=True)
    return load(path, override)


def _writable(path: Path) -> None:
    """Refuse before the first flight what could not be written after the last.

    Raises:
        InputError: its directory is not there, or it is one itself.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InputError(f"{path}: cannot be written there; expected a file in a directory that exists")


def _write(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _read(name: str, text: str, unit: Any) -> float:
    try:
        value: float = unit(text)
    except ValueError as error:
        raise InputError(f"{name} {text}: {error}") from error
    if value <= 0:
        raise InputError(f"{name} {text}: expected more than 0")
    return value


def _free_path(name: str, text: str) -> Path:
    """Find a file that does not exist, or already says the same."""
    number = 1
    while True:
        path = Path(f"{name}.yaml" if number == 1 else f"{name}-{number}.yaml")
        if not path.exists() or path.read_text(encoding="utf-8") == text:
            return path
        number += 1
