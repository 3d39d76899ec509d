"""Keys and limits from a file that is read again when it changes; one that cannot be used is kept out, and told of."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reference.gateway.settings import Policy
from reference.wire.settings import SettingsError

LOOK_SECONDS = 0.5


class PolicyFile:
    """Watches one file. Read it once before, which raises; after that what is wrong leaves the last one in force."""

    def __init__(self, path: Path, take: Callable[[Policy], None]) -> None:
        self._path = path
        self._take = take
        self._seen: bytes | None = None

    def read(self) -> Policy:
        """Return what the file says.

        Raises:
            SettingsError: it cannot be read, or a value is wrong.
        """
        try:
            raw = self._path.read_bytes()
        except OSError as error:
            raise SettingsError(f"{self._path}: cannot be read: {error.strerror}") from error
        self._seen = raw
        try:
            return Policy.model_validate_json(raw)
        except ValidationError as invalid:
            first = invalid.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            raise SettingsError(f"{self._path}: {place}: {first['msg']}") from invalid

    def look(self) -> None:
        """Take the file over when it is another than the last time; complain once of one that cannot be used."""
        try:
            if self._path.read_bytes() == self._seen:
                return
            policy = self.read()
        except (OSError, SettingsError) as error:
            if self._seen != b"":
                print(f"keys and limits stay as they were: {error}", file=sys.stderr, flush=True)
            if isinstance(error, OSError):
                self._seen = b""
            return
        self._take(policy)

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()


async def nothing() -> None:
    """Do nothing, where there is no file."""


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have something done beside the requests, as long as the server lives."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
