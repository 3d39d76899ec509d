"""`windtunnel fidelity`: how right the simulator is, on measured rows that come with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sim.experiment.errors import InputError


def fidelity(
    only: Annotated[
        str | None, typer.Option(help="rows of this group only: part of engine, GPU or model, such as `vllm h200`")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="write FIDELITY.md and fidelity.json into this directory")] = None,
    refit: Annotated[
        Path | None, typer.Option(help="fit the corrections again (minutes), write them here, and score with them")
    ] = None,
) -> None:
    """Predict every measured row without having been fitted to it, and tell the errors.

    The rows are benchmark runs of vLLM and TensorRT-LLM on H100 and H200, whole runs of vLLM on two workstation cards,
    and one replica under rising load. Whole groups (a model on a GPU) are held out, never random rows.

    windtunnel fidelity

    windtunnel fidelity --only "vllm h200 Llama" --out fidelity
    """
    from rich.console import Console
    from rich.markdown import Markdown

    from e2e.progress import shown
    from sim.fidelity import fitting
    from sim.fidelity.disaggregated import score_apart
    from sim.fidelity.disaggregated_rows import read_disaggregated
    from sim.fidelity.layer_runs import RUNS, results
    from sim.fidelity.rows import read_rows
    from sim.fidelity.saturation import saturations
    from sim.fidelity.scoreboard import score
    from sim.fidelity.table import as_json, markdown

    rows, left_out = read_rows()
    chosen = [row for row in rows if only is None or all(word.lower() in _words(row.group) for word in only.split())]
    if not chosen:
        groups = ", ".join(sorted({" ".join(row.group[:3]) for row in rows}))
        raise InputError(f"--only {only}: no rows; expected words of one of: {groups}")
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file; expected a directory")
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out {out}: the directory cannot be made: {error.strerror}") from error
    if refit is not None and not refit.parent.is_dir():
        raise InputError(f"--refit {refit}: there is no directory {refit.parent}")
    progress = Console(stderr=True)
    if refit is not None:
        corrections = fitting.fit_all(rows, lambda group, found: progress.print(*group, found, highlight=False))
        fitting.write(corrections, refit)
    else:
        corrections = fitting.shipped()
    with shown(f"{len(chosen)} rows") as share:
        board = score(chosen, corrections, left_out, lambda done: share(done / len(chosen)))
        runs = [result for run in RUNS for result in results(run)] if only is None else []
        loads = saturations() if only is None else ()
        apart = score_apart(read_disaggregated()[0], corrections) if only is None else ()
    text = markdown(board, runs, loads, apart)
    if out is None:
        Console().print(Markdown(text))
        return
    _put(out / "FIDELITY.md", text)
    _put(out / "fidelity.json", json.dumps(as_json(board, runs, loads, apart), indent=1) + "\n")
    progress.print(f"wrote {out / 'FIDELITY.md'} and {out / 'fidelity.json'}", highlight=False)


def _put(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _words(group: tuple[str, ...]) -> str:
    return " ".join(group).lower()
