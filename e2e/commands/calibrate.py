"""`windtunnel calibrate`: what a step costs on an endpoint or in a recorded run, fitted, and checked on the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sim.experiment.errors import InputError

if TYPE_CHECKING:
    from reference.engine import EngineSettings
    from sim.fidelity.calibrated import Calibrated
    from sim.fidelity.observed import Recording

BLOCK_TOKENS: Final = 16
OF_URL, OF_RUN = "Of a URL", "Of a recording"


def calibrate(
    source: Annotated[
        str, typer.Argument(help="an endpoint's URL, a run directory, or a file", metavar="URL|RUN|FILE")
    ],
    out: Annotated[Path | None, typer.Option(help="write the profile as YAML here")] = None,
    model: Annotated[
        str | None, typer.Option(help="ask for this model (default: the first served)", rich_help_panel=OF_URL)
    ] = None,
    longest: Annotated[int, typer.Option(help="tokens of the longest prompt", min=32, rich_help_panel=OF_URL)] = 2048,
    max_streams: Annotated[
        int, typer.Option(help="requests at a time, at most", min=2, max=256, rich_help_panel=OF_URL)
    ] = 16,
    max_requests: Annotated[
        int, typer.Option(help="requests, at most", min=60, max=5000, rich_help_panel=OF_URL)
    ] = 200,
    max_tokens: Annotated[
        int, typer.Option(help="tokens of prompts and answers, at most", min=1000, rich_help_panel=OF_URL)
    ] = 100_000,
    max_seconds: Annotated[float, typer.Option(help="nothing new is sent after", min=5, rich_help_panel=OF_URL)] = 300,
    api_key: Annotated[
        str | None,
        typer.Option(help="default: WINDTUNNEL_API_KEY", envvar="WINDTUNNEL_API_KEY", rich_help_panel=OF_URL),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="trust any certificate", rich_help_panel=OF_URL)] = False,
    replica: Annotated[
        str | None,
        typer.Option(help="of a run: fit this one (default: the one with most requests)", rich_help_panel=OF_RUN),
    ] = None,
    kv_tokens: Annotated[
        int | None,
        typer.Option(help="KV cache of the replica, where the engine's page or log does not tell it", min=16),
    ] = None,
    max_num_seqs: Annotated[int, typer.Option(help="the engine's setting", min=1)] = 256,
    max_num_batched_tokens: Annotated[int, typer.Option(help="the engine's setting", min=1)] = 2048,
) -> None:
    """Fit what a step costs, say how sure that is, and hold it against what was not fitted.

    A URL is probed gently: few clients at a time, each waiting for its answer, from prompts alone up to --max-streams
    answers; it gives way to refusals and to others' traffic. One engine should answer. Every other row is fitted, and
    the ones between are predicted. What is written is a `profile` for a pool of a scenario.

    A recording is a run directory, the result of `vllm bench serve --save-result --save-detailed`, AIPerf's
    profile_export.jsonl, a CSV or JSON lines, a log of vLLM or TensorRT-LLM, or what TensorRT-LLM's /metrics gave.

    windtunnel calibrate http://gpu-node:8000 --out l40s.yaml

    windtunnel calibrate runs/first_flight-local-1

    windtunnel calibrate vllm.log --out node.yaml
    """
    from sim.fidelity.calibration import calibrate as fit

    if out is not None and not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no directory {out.parent}")
    if source.startswith(("http://", "https://")):
        from e2e.probe.ladder import Budget
        from e2e.probe.probing import probe

        budget = Budget(
            max_requests=max_requests, max_tokens=max_tokens, max_seconds=max_seconds, max_streams=max_streams
        )
        recording = probe(source, budget, longest, _say, model=model, api_key=api_key, verify_tls=not insecure)
    else:
        from sim.fidelity.recordings import read

        recording = read(Path(source), replica)
    if kv_tokens is not None:
        recording = replace(recording, kv_tokens=kv_tokens)
    found = fit(recording, _settings(recording, max_num_seqs, max_num_batched_tokens))
    _tell(found, recording.what)
    if out is not None:
        _write(found, out, source, recording.what)
        typer.echo(
            f"or, in a pool of a scenario beside it, with what a request waits before its steps:\n  profile: {out.name}"
        )
        typer.echo(f"wrote {out}")


def _say(words: str) -> None:
    typer.echo(words, err=True)


def _settings(recording: Recording, max_num_seqs: int, max_num_batched_tokens: int) -> EngineSettings:
    """Give the engine that requests are flown through; where its KV cache is unknown, one that never fills.

    Raises:
        InputError: the settings contradict each other.
    """
    from reference.engine import EngineError, EngineSettings

    most = 10**6
    try:
        return EngineSettings(
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            max_model_len=most,
            num_blocks=max(1, recording.kv_tokens // BLOCK_TOKENS) if recording.kv_tokens else most,
            block_size=BLOCK_TOKENS,
        )
    except EngineError as error:
        raise InputError(f"--max-num-seqs, --max-num-batched-tokens: {error}") from error


def _tell(found: Calibrated, what: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"fitted from {what}: half of {found.num_rows} {found.rows}, the others held out", highlight=False)
    table = Table("a step costs", "seconds", "give or take")
    for name, value in found.values.items():
        table.add_row(name, f"{value:.3g}", f"{found.uncertainty[name]:.2g}")
    console.print(table)
    table = Table("predicted / measured - 1", found.rows, "median error", "p90", "bias")
    for whom, summaries in (("fitted", found.fitted), ("held out", found.held_out)):
        for measure, one in summaries.items():
            figures = (f"{one.median:.1%}", f"{one.p90:.1%}", f"{one.bias:+.1%}")
            label = measure if measure in ("step", "throughput") else measure.upper()
            table.add_row(f"{label}, {whom}", str(one.count), *figures)
    console.print(table)
    capacity = f"{found.kv_tokens} tokens" if found.kv_tokens else "unknown (neither a page nor a log told it)"
    console.print(f"KV cache of the replica: {capacity}", highlight=False)
    for doubt in found.doubts:
        console.print(f"  note: {doubt}", highlight=False)
    typer.echo(f"in a scenario's pool, instead of gpu:\n  {_step_cost(found)}")


def _step_cost(found: Calibrated) -> str:
    named = {"base" if name == "overhead" else name: value for name, value in found.values.items()}
    parts = [f"{name}: {value * 1e6:.6g}us" for name, value in named.items() if name != "request_seconds"]
    return f"step_cost: {{{', '.join(parts)}}}"


def _write(found: Calibrated, out: Path, source: str, what: str) -> None:
    from sim.hardware.profile import Profile, write_profile

    residuals = {f"{measure}_held_out": round(one.median, 5) for measure, one in found.held_out.items() if one.count}
    profile = Profile(
        name=out.stem,
        cost=found.cost,
        source=f"windtunnel calibrate {source}: {what}",
        kv_tokens=found.kv_tokens,
        request_seconds=found.request_seconds,
        residuals=residuals,
        uncertainty=found.uncertainty,
    )
    write_profile(profile, out, _step_cost(found))
