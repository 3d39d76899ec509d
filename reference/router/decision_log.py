"""What was decided about a request, with its reason and the scores behind it: as a line of a log, and as a header.

With a file every decision is a JSON line of it. Without one, those of requests that ask for it (`x-windtunnel-debug:
decision`) go to standard error.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

import orjson

from reference.policy.pool import Action, Dispatch, Refuse

DECISION = b"x-windtunnel-decision"
DEBUG = (b"x-windtunnel-debug", b"decision")
"""The header with which a request asks for its decision."""


class DecisionLog:
    """Writes decisions as they are made: all of them to a file, or of those requests that have asked."""

    def __init__(self, path: Path | None, shown_on: BinaryIO | None = None) -> None:
        self._file = open(path, "ab", buffering=0) if path else None  # noqa: SIM115 lives with the router
        self._shown_on = shown_on or sys.stderr.buffer
        self._asked: set[str] = set()

    def ask(self, request_id: str) -> None:
        """Let the decisions about a request be shown."""
        self._asked.add(request_id)

    def forget(self, request_id: str) -> None:
        """Note that a request has ended."""
        self._asked.discard(request_id)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def __call__(self, now: float, action: Action) -> None:
        """Write one decision."""
        if self._file is not None:
            self._file.write(orjson.dumps(entry(now, action)) + b"\n")
        elif self._asked and action.request.request_id in self._asked:
            self._shown_on.write(orjson.dumps(entry(now, action)) + b"\n")
            self._shown_on.flush()


def entry(now: float, action: Action) -> dict[str, object]:
    """Return a decision as a line of the log."""
    line: dict[str, object] = {
        "at": now,
        "kind": type(action).__name__.lower(),
        "request": action.request.request_id,
        "attempt": 0,
        "endpoint": "",
    }
    match action:
        case Dispatch(decision=decision, attempt=attempt):
            line |= {"attempt": attempt, "endpoint": decision.endpoint, "reason": decision.reason}
            if decision.scores:
                line["scores"] = [list(pair) for pair in decision.scores]
        case Refuse(rejected=rejected):
            line["reason"] = rejected.reason
        case _:
            line |= {"attempt": action.attempts, "reason": action.reason}
    return line


def decision_header(dispatch: Dispatch) -> bytes:
    """Return `endpoint=NAME; attempt=N; reason=WORDS; scores=NAME:SCORE,...`, which a person and a program can read."""
    decision = dispatch.decision
    text = f"endpoint={decision.endpoint}; attempt={dispatch.attempt}; reason={decision.reason}"
    if decision.scores:
        text += "; scores=" + ",".join(f"{name}:{score:.4g}" for name, score in decision.scores)
    return text.encode("ascii", "replace").replace(b"\n", b" ").replace(b"\r", b" ")
