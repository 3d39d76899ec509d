"""The journal of a search: every flight as a line, so that a search that was killed goes on where it was."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sim.capacity.decide import ClassCounts
from sim.capacity.search import Candidate, Probe
from sim.experiment.errors import InputError


class Journal:
    """A file of flights of one scenario and workload; a line that was cut short by a kill is passed over.

    Raises:
        InputError: the path is a directory, or the file is no text.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path = path
        self._fingerprint = fingerprint
        self._known: dict[str, dict[str, Any]] = {}
        if path.is_dir():
            raise InputError(f"{path}: is a directory; expected a file to keep flights in")
        if path.exists():
            self._read()
        path.parent.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self._known)

    def recall(self, candidate: Candidate, seed: int, lost: int) -> Probe | None:
        """Return a flight that was flown before, None when it was not."""
        found = self._known.get(_key(candidate, seed, lost))
        if found is None:
            return None
        classes = tuple(
            ClassCounts(
                c["name"],
                c["target"],
                tuple(map(tuple, c["minutes"])),
                tuple(map(tuple, c["broken"])),
                None if c["flown"] is None else tuple(c["flown"]),
            )
            for c in found["classes"]
        )
        return Probe(seed, classes, found["figures"], found["is_cut"])

    def note(self, candidate: Candidate, seed: int, lost: int, probe: Probe) -> None:
        """Write a flight down at once."""
        key = _key(candidate, seed, lost)
        entry = {
            "classes": [asdict(counts) for counts in probe.classes],
            "figures": dict(probe.figures),
            "is_cut": probe.is_cut,
        }
        self._known[key] = entry
        with open(self._path, "a", encoding="utf-8") as handle:
            handle.write(json.dumps({"of": self._fingerprint, "key": key, **entry}) + "\n")

    def _read(self) -> None:
        try:
            text = self._path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{self._path}: is no text; expected a file that a plan kept its flights in") from error
        if text and not text.endswith("\n"):
            with open(self._path, "a", encoding="utf-8") as handle:
                handle.write("\n")
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(entry, dict) and entry.get("of") == self._fingerprint:
                self._known[entry["key"]] = entry


def _key(candidate: Candidate, seed: int, lost: int) -> str:
    option = candidate.option
    return json.dumps([option.pool, option.settings, candidate.replicas, seed, lost])
