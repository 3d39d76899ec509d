"""Which endpoints there are: what the settings list, and what sources tell as it changes.

A source (`reference.router.sources`) tells all that it knows, each time anew. An endpoint that no source names any more
is drained: it gets nothing more, and is forgotten when nothing is in flight to it; named again meanwhile, it takes
requests again. One that moved (same name, other address) is taken in at its new address once it has left its old one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp

from reference.router.desk import Desk
from reference.router.scraping import Watch
from reference.router.settings import EndpointBlock, RouterSettings
from reference.wire.relay import Exchange

TIDY_SECONDS = 0.5
RESTART_SECONDS = 5.0
LISTED = "listed"
"""The source that the settings are; a file of endpoints stands in for it."""

Listing = Mapping[str, Iterable[EndpointBlock]]
"""Endpoints by model."""
Take = Callable[[Listing], None]
"""Takes all the endpoints that a source knows now."""
Key = tuple[str, str]
"""Model and name: one server may serve several models."""

_log = logging.getLogger(__name__)


class Source(Protocol):
    """Somewhere that endpoints are learnt from."""

    async def follow(self, take: Take) -> None:
        """Tell all there are now, and again whenever that changes, for ever. What cannot be learnt is not told."""


@dataclass(slots=True)
class Known:
    """An endpoint that is named, or was and still has something in flight."""

    model: str
    block: EndpointBlock
    desk: Desk
    watch: Watch
    flying: set[Exchange]
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def stay(self, block: EndpointBlock) -> None:
        """Take requests, at the weight and for the version that are told now."""
        if block == self.block and not self.watch.is_leaving:
            return
        self.block = self.watch.block = block
        self.watch.is_leaving = False
        if self.watch.is_healthy:
            self.desk.add_endpoint(block.name, block.weight, block.version)

    def leave(self) -> None:
        """Take no more requests."""
        if not self.watch.is_leaving:
            self.watch.is_leaving = True
            self.desk.drain(self.block.name)

    @property
    def is_done(self) -> bool:
        """Whether nothing is in flight to it, as far as we and its pool know."""
        mine = [endpoint for endpoint in self.desk.pool.endpoints if endpoint.name == self.block.name]
        return not self.flying and not any(endpoint.in_flight for endpoint in mine)


class Discovery:
    """Knows every endpoint by model and name. `update` takes a new listing; `run` follows the sources for ever."""

    def __init__(
        self,
        settings: RouterSettings,
        desks: Mapping[str, Desk],
        session: aiohttp.ClientSession,
        sources: Mapping[str, Source] | None = None,
    ) -> None:
        self.known: dict[Key, Known] = {}
        self._settings = settings
        self._desks = desks
        self._session = session
        self._sources = dict(sources or {})
        self._told: dict[str, dict[Key, EndpointBlock]] = {}
        """By source, what it last told."""

    def update(self, listing: Listing, source: str = LISTED) -> None:
        """Take in what a source tells: all of it, in place of what it told before."""
        for model in listing.keys() - self._desks.keys():
            _log.warning("%s names endpoints of %s, for which there is no pool", source, model)
        self._told[source] = {
            (model, block.name): block for model, blocks in listing.items() if model in self._desks for block in blocks
        }
        self._settle()

    async def run(self) -> None:
        """Follow all sources, and let those endpoints go that are done."""
        async with asyncio.TaskGroup() as tasks:
            for name, source in self._sources.items():
                tasks.create_task(self._follow(name, source))
            while True:
                await asyncio.sleep(TIDY_SECONDS)
                self._settle()

    def close(self) -> None:
        """Stop watching."""
        for known in self.known.values():
            for task in known.tasks:
                task.cancel()

    async def _follow(self, name: str, source: Source) -> None:
        while True:
            try:
                await source.follow(lambda listing: self.update(listing, name))
            except Exception:
                # a mistake of ours: the other sources and the requests go on, and the log has it whole
                _log.exception("%s: following it failed; it is begun again in %g s", name, RESTART_SECONDS)
            await asyncio.sleep(RESTART_SECONDS)

    def _settle(self) -> None:
        """Make what is known what is wanted, as far as that can be done now."""
        wanted = {key: block for told in self._told.values() for key, block in told.items()}
        for key, known in list(self.known.items()):
            block = wanted.get(key)
            if block is not None and block.url == known.block.url:
                known.stay(block)
            else:
                known.leave()
                if known.is_done:
                    self._forget(key, known)
        for key, block in wanted.items():
            if key not in self.known:
                self._take_in(key, block)

    def _take_in(self, key: Key, block: EndpointBlock) -> None:
        desk, flying = self._desks[key[0]], set[Exchange]()
        watch = Watch(block, desk, self._session, flying)
        known = self.known[key] = Known(key[0], block, desk, watch, flying)
        settings = self._settings
        known.tasks.append(asyncio.create_task(watch.look_at_health(settings.health_interval_seconds)))
        known.tasks.append(asyncio.create_task(watch.scrape(settings.scrape_interval_seconds)))

    def _forget(self, key: Key, known: Known) -> None:
        known.desk.remove_endpoint(known.block.name)
        for task in known.tasks:
            task.cancel()
        del self.known[key]


def url_of(scheme: str, address: str, port: int) -> str:
    """Return the URL of an address, which may be one of IPv6."""
    return f"{scheme}://[{address}]:{port}" if ":" in address else f"{scheme}://{address}:{port}"
