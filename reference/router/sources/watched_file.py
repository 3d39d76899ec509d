"""Endpoints from a JSON file that is read again whenever it changes. A file that cannot be read changes nothing."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from reference.router.discovery import Listing, Take
from reference.router.settings import EndpointBlock

INTERVAL_SECONDS = 0.5

_log = logging.getLogger(__name__)
_listing = TypeAdapter(dict[str, tuple[EndpointBlock, ...]])


class WatchedFile:
    """A file of `{model: [{name, url, weight, version}]}`. Whoever writes it should rename it into place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._complaint = ""

    async def follow(self, take: Take) -> None:
        """Tell what the file says each time that it has changed, for ever."""
        while True:
            listing = self.read()
            if listing is not None:
                take(listing)
            await asyncio.sleep(INTERVAL_SECONDS)

    def read(self) -> Listing | None:
        """Return what the file says; None when that is not new, or cannot be read."""
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino)
            if stamp == self._stamp:
                return None
            listing = _listing.validate_json(self._path.read_bytes())
        except (OSError, ValidationError) as error:
            self._complain(str(error))
            return None
        self._stamp, self._complaint = stamp, ""
        return listing

    def _complain(self, about: str) -> None:
        """Say what is wrong with the file, once."""
        if about != self._complaint:
            self._complaint = about
            _log.warning("%s: cannot be used, the endpoints stay as they are: %s", self._path, about)
