"""The decision log: one JSON line for every decision about a request, with its reason and the scores behind it."""

from __future__ import annotations

from pathlib import Path

import orjson

from reference.policy.pool import Action, Dispatch, Refuse


class DecisionFile:
    """Writes decisions to a file as they are made."""

    def __init__(self, path: Path) -> None:
        self._handle = open(path, "ab", buffering=0)  # noqa: SIM115 lives with the router

    def __call__(self, now: float, action: Action) -> None:
        """Write one decision."""
        self._handle.write(orjson.dumps(entry(now, action)) + b"\n")


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
