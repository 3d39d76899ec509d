"""A run directory: `run.json`, four parquet tables and `diagnostics.json`. Written whole or not at all.

The same record gives the same bytes in every file but `diagnostics.json`, where whatever may differ between two runs of
one seed goes. Reports are written beside these by `sim.experiment.report`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any

from sim.experiment.errors import InputError
from sim.experiment.record import REQUEST_COLUMNS, RunRecord
from sim.experiment.samples import Samples
from sim.experiment.schema import Scenario

FORMAT = 1
RUN_FILE = "run.json"
DIAGNOSTICS_FILE = "diagnostics.json"
TABLE_FILES = ("requests.parquet", "samples.parquet", "gaps.parquet", "decisions.parquet")

_PLAIN = (
    "scenario_name",
    "scenario_yaml",
    "rung",
    "seed",
    "workload_hash",
    "warm_up_seconds",
    "duration_seconds",
    "events",
    "left_out",
    "facts",
)


class NotARun(InputError):
    """A directory that no run can be read from."""


class UnwritableRun(InputError):
    """A run directory that cannot be written; nothing was left behind, and an earlier run in its place is untouched."""


def is_run(directory: Path) -> bool:
    """Say whether a directory looks like a run."""
    return (directory / RUN_FILE).is_file()


def write(record: RunRecord, directory: Path) -> None:
    """Write a run, in place of an earlier one of the same directory if there is one.

    Raises:
        UnwritableRun: it cannot be written, or the directory holds something that is not a run.
    """
    with whole_directory(directory) as staging:
        write_into(record, staging)


@contextmanager
def whole_directory(directory: Path) -> Iterator[Path]:
    """Give a directory to fill: it takes the place of `directory` when the block ends well, and is gone when not.

    Raises:
        UnwritableRun: it cannot be written, or the directory holds something that is not a run.
    """
    if directory.exists() and not is_run(directory) and (not directory.is_dir() or any(directory.iterdir())):
        raise UnwritableRun(f"{directory}: is there already and is not a run; expected a new directory, or a run's")
    staging = None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        yield staging
        _put_in_place(staging, directory)
    except OSError as error:
        raise UnwritableRun(f"{directory}: the run cannot be written: {error.strerror or error}") from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def write_into(record: RunRecord, directory: Path) -> None:
    """Write the files of a run into a directory that is there; whole_directory makes them appear all at once."""
    plain = {"windtunnel_run": FORMAT} | {name: getattr(record, name) for name in _PLAIN}
    write_json(directory / RUN_FILE, plain)
    write_json(directory / DIAGNOSTICS_FILE, record.diagnostics)
    for name, table in zip(TABLE_FILES, _tables(record), strict=True):
        _write_table(table, directory / name)


def read(directory: Path) -> RunRecord:
    """Read a run back.

    Raises:
        NotARun: there is none, a file of it is missing or damaged, or it is of a later format.
    """
    if not directory.is_dir():
        raise NotARun(f"{directory}: there is no such run directory")
    if not is_run(directory):
        raise NotARun(f"{directory}: is not a run directory; expected {RUN_FILE} in it")
    plain = _read_json(directory / RUN_FILE)
    if plain.get("windtunnel_run") != FORMAT:
        raise NotARun(f"{directory / RUN_FILE}: run format {plain.get('windtunnel_run')!r}; expected {FORMAT}")
    missing = [name for name in _PLAIN if name not in plain]
    if missing:
        raise NotARun(f"{directory / RUN_FILE}: the key {missing[0]!r} is missing")
    diagnostics = directory / DIAGNOSTICS_FILE
    return RunRecord(
        **{name: plain[name] for name in _PLAIN},
        requests=_read_requests(directory / TABLE_FILES[0]),
        samples=Samples(_read_rows(directory / TABLE_FILES[1])),
        gaps=_read_rows(directory / TABLE_FILES[2]),
        decisions=_read_decisions(directory / TABLE_FILES[3]),
        diagnostics=_read_json(diagnostics) if diagnostics.exists() else {},
    )


def scenario_of(record: RunRecord) -> Scenario:
    """Return the scenario as it was flown; files that it names are not looked for again.

    Raises:
        NotARun: the record holds none that can be read.
    """
    from pydantic import ValidationError
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return Scenario.model_validate(YAML(typ="safe").load(record.scenario_yaml))
    except (YAMLError, ValidationError) as error:
        raise NotARun(f"the scenario {record.scenario_name!r} stored with the run cannot be read: {error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON that is the same for the same value, with no number that JSON does not have."""
    path.write_text(json.dumps(_finite(value), indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def _tables(record: RunRecord) -> tuple[Any, Any, Any, Any]:
    import pyarrow as pa

    kinds = {int: pa.int64(), float: pa.float64(), str: pa.string()}
    requests = {
        # from_pandas: a NaN in memory is a null in the file
        name: pa.array(record.requests.get(name, []), kinds[kind], from_pandas=True)
        for name, kind in REQUEST_COLUMNS.items()
    }
    samples = _columns(list(record.samples), ("seconds", "component", "measure", "value"), ("f", "s", "s", "f"))
    gaps = _columns(record.gaps, ("gap_seconds", "tokens", "count"), ("f", "f", "f"))
    decisions = _columns(
        [row[:5] for row in record.decisions],
        ("seconds", "index", "attempt", "endpoint", "reason"),
        ("f", "i", "i", "s", "s"),
    )
    scores = [row[5] for row in record.decisions]
    offsets = pa.array(_offsets(scores), pa.int32())
    flat = list(chain.from_iterable(scores))
    decisions["scored"] = pa.ListArray.from_arrays(offsets, pa.array([name for name, _ in flat], pa.string()))
    decisions["scores"] = pa.ListArray.from_arrays(offsets, pa.array([float(score) for _, score in flat], pa.float64()))
    return pa.table(requests), pa.table(samples), pa.table(gaps), pa.table(decisions)


def _columns(rows: Sequence[tuple[Any, ...]], names: Sequence[str], kinds: Sequence[str]) -> dict[str, Any]:
    import pyarrow as pa

    types = {"f": pa.float64(), "i": pa.int64(), "s": pa.string()}
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return {name: pa.array(column, types[kind]) for name, kind, column in zip(names, kinds, columns, strict=True)}


def _offsets(lists: Sequence[Sequence[Any]]) -> list[int]:
    offsets = [0]
    for items in lists:
        offsets.append(offsets[-1] + len(items))
    return offsets


def _write_table(table: Any, path: Path) -> None:
    import pyarrow.parquet as parquet

    parquet.write_table(table, path, version="2.6", compression="zstd", compression_level=3, store_schema=False)


def _put_in_place(partial: Path, directory: Path) -> None:
    partial.chmod(0o755)
    if not is_run(directory):
        os.replace(partial, directory)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{directory.name}.old.", dir=directory.parent))
    os.replace(directory, aside)
    try:
        os.replace(partial, directory)
    except OSError:
        os.replace(aside, directory)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _read_requests(path: Path) -> dict[str, list[Any]]:
    table = _read_table(path)
    if "sends" not in table.column_names:  # a run of before clients sent again
        table = table.append_column("sends", [[1] * len(table)])
    missing = [name for name in REQUEST_COLUMNS if name not in table.column_names]
    if missing:
        raise NotARun(f"{path}: the column {missing[0]!r} is missing")
    return {name: _column(table, name, kind) for name, kind in REQUEST_COLUMNS.items()}


def _column(table: Any, name: str, kind: type) -> list[Any]:
    column = table.column(name)
    if kind is float:
        floats: list[Any] = column.to_numpy(zero_copy_only=False).tolist()
        return floats
    values: list[Any] = column.to_pylist()
    return values


def _read_rows(path: Path) -> list[Any]:
    table = _read_table(path)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _read_decisions(path: Path) -> list[Any]:
    table = _read_table(path)
    plain = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return [(*row[:5], tuple(zip(row[5], row[6], strict=True))) for row in plain]


def _read_table(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        return parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise NotARun(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NotARun(f"{path}: cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise NotARun(f"{path}: expected a JSON object")
    return value


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
