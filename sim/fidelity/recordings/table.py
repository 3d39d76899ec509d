"""A plain table of requests, as CSV or JSON lines, by the names of its columns.

Each quantity has a few names, this project's and those of published runs (LLMServingSim's `requests.jsonl`: input_toks,
queued_ts, first_token_ts, last_token_ts). Instants may be of any clock, but of the same one.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from sim.experiment.errors import InputError
from sim.fidelity.observed import Recording
from sim.fidelity.recordings.request_rows import RequestRow, observed, tpot_of

SENT: Final = ("sent", "sent_seconds", "sent_s", "queued_s", "queued_ts", "arrival", "arrival_seconds", "arrival_time")
INPUT: Final = ("input_tokens", "input_toks", "prompt_tokens")
OUTPUT: Final = ("output_tokens", "output_toks", "completion_tokens")
CACHED: Final = ("cached_tokens",)
TTFT: Final = ("ttft_seconds", "ttft_s", "ttft")
FIRST: Final = ("first_token", "first_token_seconds", "first_token_s", "first_token_ts")
TPOT: Final = ("tpot_seconds", "tpot_s", "tpot")
E2E: Final = ("e2e_seconds", "e2e_s", "e2e")
LAST: Final = ("last_token", "last_token_seconds", "last_token_s", "last_token_ts")
COLUMNS: Final = (
    "columns sent (or arrival), input_tokens, output_tokens, ttft_seconds (or first_token) and tpot_seconds "
    "(or e2e_seconds, or last_token)"
)

Row = Mapping[str, Any]


def read_csv(text: str, path: Path) -> Recording:
    """Read a table with a line of names on top.

    Raises:
        InputError: a column is missing, or a value is no number.
    """
    return read_rows(list(csv.DictReader(text.splitlines())), path, first_line=2)


def read_rows(rows: Iterable[Row], path: Path, first_line: int = 1) -> Recording:
    """Read rows by name.

    Raises:
        InputError: a column is missing, or a value is no number.
    """
    found = [_request(row, f"{path}:{number}") for number, row in enumerate(rows, first_line)]
    return Recording(what=f"{len(found)} requests of {path.name}", measured=observed(found, path))


def _request(row: Row, where: str) -> RequestRow:
    sent, given, got = (_needed(row, names, where) for names in (SENT, INPUT, OUTPUT))
    ttft = _optional(row, TTFT, where)
    if ttft is None:
        ttft = _needed(row, FIRST, where, instead=TTFT) - sent
    tpot = _optional(row, TPOT, where)
    if tpot is None and got > 1:
        e2e = _optional(row, E2E, where)
        tpot = tpot_of(_needed(row, LAST, where, instead=TPOT) - sent if e2e is None else e2e, ttft, got)
    return RequestRow(
        sent=sent,
        input_tokens=given,
        output_tokens=got,
        ttft=ttft,
        tpot=tpot,
        cached_tokens=_optional(row, CACHED, where) or 0.0,
    )


def _needed(row: Row, names: tuple[str, ...], where: str, instead: tuple[str, ...] = ()) -> float:
    found = _optional(row, names, where)
    if found is None:
        known = ", ".join(str(name) for name in row) or "nothing"
        raise InputError(f"{where}: has no {(instead or names)[0]} (there is {known}); expected {COLUMNS}")
    return found


def _optional(row: Row, names: tuple[str, ...], where: str) -> float | None:
    name = next((name for name in names if row.get(name) not in (None, "")), None)
    if name is None:
        return None
    try:
        return float(row[name])
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {name} is {row[name]!r}; expected a number") from error
