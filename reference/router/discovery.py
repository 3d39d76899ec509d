"""Which endpoints there are: those of the settings, or of a file that is read again whenever it changes.

An endpoint that is no longer listed is drained: it gets nothing more, and is forgotten when nothing is in flight to it.
A file that cannot be read changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from pydantic import TypeAdapter, ValidationError

from reference.router.desk import Desk
from reference.router.scraping import Watch
from reference.router.settings import EndpointBlock, RouterSettings
from reference.wire.relay import Exchange

FILE_INTERVAL_SECONDS = 0.5

_log = logging.getLogger(__name__)
_listing = TypeAdapter(dict[str, tuple[EndpointBlock, ...]])


@dataclass(slots=True)
class Known:
    """An endpoint that is listed, or was and still has something in flight."""

    block: EndpointBlock
    desk: Desk
    watch: Watch
    flying: set[Exchange]
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Discovery:
    """Knows every endpoint by name. `update` takes a new listing; `run` reads the file for ever."""

    def __init__(self, settings: RouterSettings, desks: Mapping[str, Desk], session: aiohttp.ClientSession) -> None:
        self.known: dict[str, Known] = {}
        self._settings = settings
        self._desks = desks
        self._session = session
        self._stamp: tuple[int, int] | None = None

    def update(self, listing: Mapping[str, Iterable[EndpointBlock]]) -> None:
        """Take in who is listed and not known, and drain who is known and no longer listed as before."""
        wanted = {block.name: (model, block) for model, blocks in listing.items() for block in blocks}
        for name, known in self.known.items():
            still = wanted.get(name)
            if still is None or still[1] != known.block:
                self._let_go(known)
        for name, (model, block) in wanted.items():
            desk = self._desks.get(model)
            if desk is None:
                _log.warning("endpoint %s serves %s, for which there is no pool", name, model)
            elif name not in self.known:
                self._take_in(block, desk)
        self._forget_those_done()

    async def run(self) -> None:
        """Follow the file, and let those go that are done."""
        while True:
            self.read_file()
            self._forget_those_done()
            await asyncio.sleep(FILE_INTERVAL_SECONDS)

    def read_file(self) -> None:
        """Read the file of endpoints if there is one and it has changed."""
        if not self._settings.endpoints_file:
            return
        path = Path(self._settings.endpoints_file)
        try:
            stat = path.stat()
            if (stat.st_mtime_ns, stat.st_ino) == self._stamp:
                return
            listing = _listing.validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            _log.warning("%s: cannot be used, the endpoints stay as they are: %s", path, error)
            return
        self._stamp = stat.st_mtime_ns, stat.st_ino
        self.update(listing)

    def close(self) -> None:
        """Stop watching."""
        for known in self.known.values():
            for task in known.tasks:
                task.cancel()

    def _take_in(self, block: EndpointBlock, desk: Desk) -> None:
        flying: set[Exchange] = set()
        watch = Watch(block, desk, self._session, flying)
        known = self.known[block.name] = Known(block, desk, watch, flying)
        settings = self._settings
        known.tasks.append(asyncio.create_task(watch.look_at_health(settings.health_interval_seconds)))
        known.tasks.append(asyncio.create_task(watch.scrape(settings.scrape_interval_seconds)))

    def _let_go(self, known: Known) -> None:
        known.watch.is_leaving = True
        known.desk.drain(known.block.name)

    def _forget_those_done(self) -> None:
        for name, known in list(self.known.items()):
            if known.watch.is_leaving and not known.flying and not _in_flight(known):
                known.desk.remove_endpoint(name)
                for task in known.tasks:
                    task.cancel()
                del self.known[name]
                # listed again meanwhile, perhaps elsewhere: the next look at the file takes it in
                self._stamp = None


def _in_flight(known: Known) -> int:
    """Count what the pool has dispatched there and has no outcome of."""
    name = known.block.name
    return sum(endpoint.in_flight for endpoint in known.desk.pool.endpoints if endpoint.name == name)
