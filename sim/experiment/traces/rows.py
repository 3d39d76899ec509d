"""The common form of a recorded stream, and the one function that reads any of them."""

from __future__ import annotations

import gzip
import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sim.experiment.errors import InputError
from sim.experiment.workload import PromptSegment


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One recorded request. `at` in seconds since the trace's first row."""

    at: float
    input_tokens: int
    output_tokens: int
    prompt: tuple[PromptSegment, ...] = ()
    session: str = ""


@dataclass(slots=True)
class TraceRows:
    """What a file held: rows in order of time, rows read, and those dropped by reason."""

    rows: list[TraceRow] = field(default_factory=list)
    num_read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    tick_seconds: float = 0.0
    """Granularity of the timestamps when it is so coarse that replaying it literally would be an artefact."""


class TraceLines:
    """The lines of a trace file, plain or gzipped, with errors that name file, line and value."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        try:
            with open(self.path, "rb") as raw:
                packed = gzip.GzipFile(fileobj=raw) if self.path.suffix == ".gz" else raw
                for line in io.TextIOWrapper(packed, encoding="utf-8", newline=None):
                    self.number += 1
                    yield line.rstrip("\n")
        except FileNotFoundError:
            raise InputError(f"{self.path}: there is no such trace file") from None
        except EOFError:
            raise InputError(f"{self.path}:{self.number}: the file is truncated (the gzip stream ends early)") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{self.path}:{self.number}: the trace cannot be read: {error}") from error

    def whole(self, text: str, column: str) -> int:
        """Read a token count.

        Raises:
            InputError: it is not a whole number.
        """
        try:
            return int(text)
        except ValueError:
            raise self.error(f"{column} is {text!r}; expected a whole number of tokens") from None

    def error(self, problem: str) -> InputError:
        """Make the error for the line just read."""
        return InputError(f"{self.path}:{self.number}: {problem}")


def read_trace(path: Path, trace_format: str) -> TraceRows:
    """Read a trace of a format named in the scenario.

    Raises:
        InputError: missing or truncated file, or a row that is none, with file, line and value.
    """
    from sim.experiment.traces.azure import read_azure
    from sim.experiment.traces.burstgpt import read_burstgpt
    from sim.experiment.traces.mooncake import read_mooncake
    from sim.experiment.traces.servegen import read_servegen

    readers: dict[str, Callable[[TraceLines], TraceRows]] = {
        "azure": read_azure,
        "burstgpt": read_burstgpt,
        "mooncake": read_mooncake,
        "servegen": read_servegen,
    }
    found = readers[trace_format](TraceLines(path))
    found.rows.sort(key=lambda row: row.at)
    if not found.rows:
        raise InputError(f"{path}: holds no request ({found.num_read} rows read, dropped: {dict(found.dropped)})")
    first = found.rows[0].at
    if first:
        found.rows = [
            TraceRow(row.at - first, row.input_tokens, row.output_tokens, row.prompt, row.session) for row in found.rows
        ]
    return found


def split(lines: TraceLines, line: str, header: list[str]) -> list[str]:
    """Split a CSV row without quotes and require as many columns as the header has.

    Raises:
        InputError: it has more or fewer.
    """
    columns = line.split(",")
    if len(columns) != len(header):
        raise lines.error(f"{line!r} has {len(columns)} columns; expected {len(header)}: {','.join(header)}")
    return columns


def require_header(lines: TraceLines, line: str | None, expected: list[str]) -> list[str]:
    """Require the columns of a format in the first line.

    Raises:
        InputError: another header, or an empty file.
    """
    header = [column.strip().lstrip("\ufeff") for column in (line or "").split(",")]
    if not set(expected) <= set(header):
        raise lines.error(f"the header is {line!r}; expected columns {','.join(expected)}")
    return header
