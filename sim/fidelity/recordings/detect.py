"""Which reader a recording is for, told by its content and never by its name."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, Final

from sim.experiment.errors import InputError
from sim.experiment.store import is_run
from sim.fidelity.observed import Recording
from sim.fidelity.recordings import aiperf, run_directory, table, trt_iterations, trt_log, vllm_bench, vllm_log

FORMATS: Final = (
    "a run directory, a result of `vllm bench serve --save-result --save-detailed`, AIPerf's profile_export.jsonl, "
    "a log of vLLM or of TensorRT-LLM (print_iter_log), TensorRT-LLM's /metrics as JSON, "
    f"or a table (CSV or JSON lines) with {table.COLUMNS}"
)


def read(path: Path, replica: str | None = None) -> Recording:
    """Read a recording, gzipped or not; `replica` chooses one of a run directory.

    Raises:
        InputError: there is nothing that can be read there; the message says what was expected.
    """
    if is_run(path):
        return run_directory.read(path, replica)
    if path.is_dir():
        raise InputError(f"{path}: is a directory and not a run; expected {FORMATS}")
    if replica is not None:
        raise InputError(f"--replica {replica}: {path} is not a run directory, so it tells of no replicas")
    text = _text(path)
    # logs before JSON: their lines may begin with a bracket
    if vllm_log.is_one(text):
        return vllm_log.read(text, path)
    if trt_log.is_one(text):
        return trt_log.read(text, path)
    if text.lstrip()[:1] in ("{", "["):
        return _read_json(text, path)
    if "," in text.partition("\n")[0]:
        return table.read_csv(text, path)
    raise InputError(f"{path}: in no format that is known; expected {FORMATS}")


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError) as error:
        where = "there is no such run directory or file" if isinstance(error, FileNotFoundError) else error
        raise InputError(f"{path}: {getattr(where, 'strerror', None) or where}; expected {FORMATS}") from error
    # a log may hold anything
    return content.decode("utf-8", "replace")


def _read_json(text: str, path: Path) -> Recording:
    values = _values(text, path)
    first = values[0] if values else {}
    if len(values) == 1 and vllm_bench.is_one(first):
        return vllm_bench.read(first, path)
    if trt_iterations.is_one(first):
        return trt_iterations.read(values, path)
    if aiperf.is_one(first):
        return aiperf.read(values, path)
    if "experiments" in first:
        raise InputError(
            f"{path}: GenAI-Perf's profile_export.json holds texts and no token counts; expected AIPerf's "
            "profile_export.jsonl, or a table made of it"
        )
    return table.read_rows(values, path)


def _values(text: str, path: Path) -> list[dict[str, Any]]:
    """Give the objects of a JSON text or of JSON lines; lists, as of several scrapes, one after the other."""
    try:
        found = [json.loads(text)]
    except ValueError:
        found = []
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise InputError(f"{path}:{number}: not JSON ({error})") from error
    flat = [value for part in found for value in (part if isinstance(part, list) else [part])]
    if not all(isinstance(value, dict) for value in flat):
        raise InputError(f"{path}: holds JSON that is no object; expected {FORMATS}")
    return flat
