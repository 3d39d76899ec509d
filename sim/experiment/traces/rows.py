"""The common form of a recorded stream, and the one function that reads any of them."""

from __future__ import annotations

import gzip
import io
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from sim.experiment.errors import InputError
from sim.experiment.workload import PromptSegment

Prompt = tuple[PromptSegment, ...]


@dataclass(slots=True)
class TraceRows:
    """What a file held, a column each: requests in order of time, rows read, and those dropped by reason."""

    at: list[float] = field(default_factory=list)
    """Seconds since the first request."""
    input_tokens: list[int] = field(default_factory=list)
    output_tokens: list[int] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    num_read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    tick_seconds: float = 0.0
    """Granularity of the time stamps when it is so coarse that replaying it literally would be an artefact."""

    def add(
        self, at: float, input_tokens: int, output_tokens: int, prompt: Prompt = (), session: str = "", *, empty: str
    ) -> None:
        """Take one row; one without input or output tokens is dropped for the reason that `empty` gives."""
        if input_tokens < 1 or output_tokens < 1:
            self.dropped[empty] += 1
            return
        self.at.append(at)
        self.input_tokens.append(input_tokens)
        self.output_tokens.append(output_tokens)
        self.prompts.append(prompt)
        self.sessions.append(session)

    def settle(self) -> None:
        """Put the rows in order of time, those of one instant as recorded, and count time from the first."""
        if any(later < earlier for earlier, later in zip(self.at, self.at[1:], strict=False)):
            order = sorted(range(len(self.at)), key=self.at.__getitem__)
            for name in ("at", "input_tokens", "output_tokens", "prompts", "sessions"):
                column: list[Any] = getattr(self, name)
                setattr(self, name, [column[place] for place in order])
        first = self.at[0]
        self.at = [at - first for at in self.at]


class TraceLines:
    """The lines of a trace file, plain or gzipped, with errors that name file, line and value."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        try:
            with open(self.path, "rb") as raw:
                packed = gzip.GzipFile(fileobj=raw) if self.path.suffix == ".gz" else raw
                with io.TextIOWrapper(packed, encoding="utf-8", newline=None) as text:
                    for line in text:
                        self.number += 1
                        yield line.rstrip("\n")
        except FileNotFoundError:
            raise InputError(f"{self.path}: there is no such trace file") from None
        except EOFError:
            raise InputError(f"{self.path}:{self.number}: the file is truncated (the gzip stream ends early)") from None
        except (OSError, UnicodeDecodeError, zlib.error) as error:
            raise InputError(f"{self.path}:{self.number}: the trace cannot be read: {error}") from error

    def whole(self, text: str, column: str) -> int:
        """Read a token count.

        Raises:
            InputError: it is not a whole number, or below zero.
        """
        try:
            number = int(text)
        except ValueError:
            number = -1
        if number < 0:
            raise self.error(f"{column} is {text!r}; expected a whole number of tokens")
        return number

    def seconds(self, text: str, column: str) -> float:
        """Read a time.

        Raises:
            InputError: it is not a finite number.
        """
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not isfinite(number):
            raise self.error(f"{column} is {text!r}; expected seconds")
        return number

    def error(self, problem: str) -> InputError:
        """Make the error for the line just read."""
        return InputError(f"{self.path}:{max(1, self.number)}: {problem}")


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
    if not found.at:
        raise InputError(f"{path}: holds no request ({found.num_read} rows read, dropped: {dict(found.dropped)})")
    found.settle()
    return found


def split(lines: TraceLines, line: str, header: list[str]) -> list[str]:
    """Split a CSV row without quotes and require as many columns as the header has.

    Raises:
        InputError: it has more or fewer.
    """
    columns = line.split(",")
    if len(columns) != len(header):
        raise lines.error(f"{line[:80]!r} has {len(columns)} columns; expected {len(header)}: {','.join(header)}")
    return columns


def require_header(lines: TraceLines, line: str | None, expected: list[str]) -> list[str]:
    """Require the columns of a format in the first line.

    Raises:
        InputError: another header, or an empty file.
    """
    header = [column.strip().lstrip("\ufeff") for column in (line or "").split(",")]
    if not set(expected) <= set(header):
        raise lines.error(f"the header is {(line or '')[:80]!r}; expected columns {','.join(expected)}")
    return header
