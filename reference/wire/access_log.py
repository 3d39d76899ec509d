"""The access log: one JSON line a request, to standard output or a file, without any text of prompts or answers."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

import orjson

MOMENT_SECONDS = 0.05


class AccessLog:
    """Writes lines as requests end, those of a moment together. Used inside an event loop; `close` writes the last."""

    def __init__(self, path: Path | None = None, *, enabled: bool = True) -> None:
        self._handle: BinaryIO | None = None
        if enabled:
            self._handle = open(path, "ab", buffering=0) if path else sys.stdout.buffer  # noqa: SIM115 lives with the server

        self._lines: list[bytes] = []
        self._flushing: asyncio.TimerHandle | None = None

    def write(self, **fields: Any) -> None:
        """Write one line; a field that is None is left out."""
        if self._handle is None:
            return
        line = {"at": round(time.time(), 6), **{name: value for name, value in fields.items() if value is not None}}
        self._lines.append(orjson.dumps(line) + b"\n")
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(MOMENT_SECONDS, self._flush)

    def close(self) -> None:
        """Write what has not been written yet."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flush()

    def _flush(self) -> None:
        assert self._handle is not None
        self._flushing = None
        lines, self._lines = self._lines, []
        self._handle.write(b"".join(lines))
        self._handle.flush()
