"""`windtunnel calibrate`: what a step costs on an endpoint or in a recorded run, fitted, and checked on the rest."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.experiment.errors import InputError

if TYPE_CHECKING:
    from sim.experiment.record import RunRecord
    from sim.fidelity.calibration import Calibrated, Observed

PROBES = """\
windtunnel: 1
name: calibration
about: A gentle probe of one replica, mostly of prompts on their own, then of a few answers at a time.
seed: {seed}
workload:
  arrivals: {{process: stages, stages: [{{lasts: {quiet}s, rate: {low}/s}}, {{lasts: {busy}s, rate: {high}/s}}]}}
  lengths:
    input: {{kind: uniform, min: 16, max: {longest}}}
    output: {{kind: uniform, min: 4, max: 96}}
cluster:
  pools:
    - {{model: "{model}", replicas: 1, step_cost: {{base: 10ms}}, max_model_len: 1000000, num_gpu_blocks: 1000000}}
"""


def calibrate(
    source: Annotated[str, typer.Argument(help="an endpoint's URL, or a run directory", metavar="URL|RUN")],
    out: Annotated[Path | None, typer.Option(help="write the profile as YAML here")] = None,
    replica: Annotated[
        str | None, typer.Option(help="of a run: fit this replica only (default: the one with most requests)")
    ] = None,
    requests: Annotated[int, typer.Option(help="of a URL: how many requests to send", min=40, max=2000)] = 120,
    rate: Annotated[float, typer.Option(help="of a URL: requests per second, at most", min=0.05, max=50)] = 2.0,
    longest: Annotated[int, typer.Option(help="of a URL: tokens of the longest prompt", min=32)] = 2048,
    model: Annotated[str | None, typer.Option(help="of a URL: ask for this model")] = None,
    api_key: Annotated[
        str | None, typer.Option(help="of a URL (default: WINDTUNNEL_API_KEY)", envvar="WINDTUNNEL_API_KEY")
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="of a URL: trust any certificate")] = False,
    max_num_seqs: Annotated[int, typer.Option(help="the engine's setting", min=1)] = 256,
    max_num_batched_tokens: Annotated[int, typer.Option(help="the engine's setting", min=1)] = 2048,
) -> None:
    """Fit what a step costs, say how sure that is, and hold it against requests that were not fitted.

    From a URL it sends a bounded number of requests, slowly: one replica, or one engine, should answer them all. From
    a run it takes what one replica served. Every other request is fitted; the ones between are predicted.

    windtunnel calibrate http://gpu-node:8000 --out l40s.yaml

    windtunnel calibrate runs/first_flight-local-1
    """
    from reference.engine import EngineSettings
    from sim.fidelity.calibration import calibrate as fit

    if out is not None and not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no directory {out.parent}")
    settings = EngineSettings(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        max_model_len=1_000_000,
        num_blocks=1_000_000,
    )
    if source.startswith(("http://", "https://")):
        record = _probe(source, requests, rate, longest, model, api_key, verify_tls=not insecure)
        observed, what = _observed(record, None)
    else:
        from sim.experiment.store import read

        record = read(Path(source))
        observed, what = _observed(record, replica)
    found = fit(observed, settings)
    _tell(found, what)
    if out is not None:
        _write(found, out, source, what)
        typer.echo(
            f"or, in a pool of a scenario beside it, with what a request waits before its steps:\n  profile: {out.name}"
        )
        typer.echo(f"wrote {out}")


def _probe(
    url: str, requests: int, rate: float, longest: int, model: str | None, api_key: str | None, *, verify_tls: bool
) -> RunRecord:
    """Fly a small workload at an endpoint: three quarters of the time alone, then at the full rate."""
    from e2e.progress import shown
    from e2e.replay import served_models
    from e2e.rungs import Target
    from e2e.rungs.url import fly
    from sim.experiment.generate import build_workload
    from sim.experiment.scenario import parse

    served = served_models(url, api_key, verify_tls=verify_tls)
    wanted = model or (served[0] if served else "")
    low = rate / 4
    seconds = requests / (0.6 * low + 0.4 * rate)
    text = PROBES.format(
        seed=1,
        quiet=f"{0.6 * seconds:.1f}",
        busy=f"{0.4 * seconds:.1f}",
        low=f"{low:g}",
        high=f"{rate:g}",
        longest=longest,
        model=wanted,
    )
    loaded = parse(text)
    typer.echo(f"about {requests} requests to {wanted} in {seconds:.0f} s, {rate:g}/s at most", err=True)
    with shown("calibration") as progress, tempfile.TemporaryDirectory(prefix="windtunnel-") as scratch:
        target = Target(api_key, model, verify_tls=verify_tls)
        return fly(loaded, build_workload(loaded), url, Path(scratch), progress, target)


def _observed(record: RunRecord, replica: str | None) -> tuple[Observed, str]:
    """Take what one replica served whole; return it with a few words on what it is.

    Raises:
        InputError: there is no such replica.
    """
    import numpy as np

    from sim.fidelity.calibration import Observed

    table: dict[str, Any] = record.requests
    endpoints = [str(name) for name in table["endpoint"]]
    named = sorted({name for name in endpoints if name})
    chosen = replica or (max(named, key=endpoints.count) if named else "")
    if replica is not None and replica not in named:
        raise InputError(f"--replica {replica}: served nothing; expected one of {', '.join(named) or 'none: no names'}")
    whole = [
        number
        for number, status in enumerate(table["status"])
        if status == "ok" and endpoints[number] in ("", chosen) and table["output_tokens"][number] >= 1
    ]
    whole.sort(key=lambda number: table["sent"][number])

    def column(name: str) -> np.ndarray:
        return np.array([table[name][number] or 0 for number in whole], dtype=float)

    sent, first, last, output = (column(name) for name in ("sent", "first_token", "last_token", "output_tokens"))
    gaps = output - 1
    observed = Observed(
        sent=sent,
        input_tokens=column("input_tokens"),
        output_tokens=output,
        ttft=first - sent,
        tpot=np.divide(last - first, gaps, out=np.full(len(whole), np.nan), where=gaps > 0),
        cached_tokens=column("cached_tokens"),
    )
    return observed, f"{len(whole)} requests of {chosen or 'the endpoint'} ({record.rung})"


def _tell(found: Calibrated, what: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"fitted from {what}: every other one, the others held out", highlight=False)
    table = Table("a step costs", "seconds", "give or take")
    for name, value in _values(found).items():
        table.add_row(name, f"{value:.3g}", f"{found.uncertainty[name]:.2g}")
    console.print(table)
    table = Table("predicted / measured - 1", "requests", "median error", "p90", "bias")
    for whom, summaries in (("fitted", found.fitted), ("held out", found.held_out)):
        for measure, one in summaries.items():
            figures = (f"{one.median:.1%}", f"{one.p90:.1%}", f"{one.bias:+.1%}")
            table.add_row(f"{measure.upper()}, {whom}", str(one.count), *figures)
    console.print(table)
    for doubt in found.doubts:
        console.print(f"  note: {doubt}", highlight=False)
    typer.echo(f"in a scenario's pool, instead of gpu:\n  {_step_cost(found)}")


def _values(found: Calibrated) -> dict[str, float]:
    cost = found.cost
    names = ("overhead", "per_prefill_token", "per_sequence", "per_context_token")
    return {name: float(getattr(cost, name)) for name in names} | {"request_seconds": found.request_seconds}


def _step_cost(found: Calibrated) -> str:
    named = {"base" if name == "overhead" else name: value for name, value in _values(found).items()}
    parts = [f"{name}: {value * 1e6:.6g}us" for name, value in named.items() if name != "request_seconds"]
    return f"step_cost: {{{', '.join(parts)}}}"


def _write(found: Calibrated, out: Path, source: str, what: str) -> None:
    from sim.hardware.profile import Profile, write_profile

    residuals = {f"{measure}_held_out": round(one.median, 5) for measure, one in found.held_out.items()}
    profile = Profile(
        name=out.stem,
        cost=found.cost,
        source=f"windtunnel calibrate {source}: {what}",
        request_seconds=found.request_seconds,
        residuals=residuals,
        uncertainty=found.uncertainty,
    )
    write_profile(profile, out, _step_cost(found))
