"""The access log: one JSON line a request, to standard output or a file, without any text of prompts or answers."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

import orjson


class AccessLog:
    """Writes lines as requests end. Buffered for a moment: a line is worth less than the request it is about."""

    def __init__(self, path: Path | None = None, *, enabled: bool = True) -> None:
        self._handle: BinaryIO | None = None
        if enabled:
            self._handle = open(path, "ab", buffering=0) if path else sys.stdout.buffer  # noqa: SIM115 lives with the server

    def write(self, **fields: Any) -> None:
        """Write one line; a field that is None is left out."""
        if self._handle is None:
            return
        line = {"at": round(time.time(), 6), **{name: value for name, value in fields.items() if value is not None}}
        self._handle.write(orjson.dumps(line) + b"\n")
        if self._handle is sys.stdout.buffer:
            self._handle.flush()
