"""Looking at replicas: health decides whether they are endpoints, metrics are what policies know of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

import aiohttp

from reference.router.desk import Desk
from reference.router.settings import EndpointBlock
from reference.router.signals import PAGES, read_observation
from reference.wire.relay import Exchange

TIMEOUT_SECONDS = 2.0
HURRY_SECONDS = 0.5
MAX_MISSES = 2
"""Health checks missed in a row before a replica is no endpoint any more."""


class Watch:
    """Watches one replica for ever: adds it to its desk when it is healthy, removes it when it is not.

    What is in flight to a replica that misses its checks, and has been silent since the first miss, is given up:
    requests without a first byte are then tried elsewhere. One that still streams is let alone.
    """

    def __init__(
        self, block: EndpointBlock, desk: Desk, session: aiohttp.ClientSession, flying: Collection[Exchange]
    ) -> None:
        self.block = block
        self.is_healthy = False
        self.is_leaving = False
        """It is being drained: however well it is, it is not taken in again."""
        self._desk = desk
        self._session = session
        self._flying = flying
        self._failures = 0
        self._page = ""
        """Where its metrics are, once that is known."""
        self._came_at_first_miss: dict[Exchange, int] = {}

    async def look_at_health(self, interval: float) -> None:
        """Ask for `/health` at every interval; two misses in a row take the endpoint out, one answer takes it in."""
        while True:
            began = time.monotonic()
            await self._check(min(TIMEOUT_SECONDS, interval))
            # one that misses is asked again soon: it is out sooner, and back soon after it is up
            pause = min(interval, HURRY_SECONDS) if self._failures or not self.is_healthy else interval
            await asyncio.sleep(max(0.0, pause - (time.monotonic() - began)))

    async def scrape(self, interval: float) -> None:
        """Read its metrics at every interval while the endpoint is healthy."""
        while True:
            if self.is_healthy:
                await self._scrape()
            await asyncio.sleep(interval)

    def is_refused(self) -> None:
        """Hear that a request's connection was refused: nobody listens there, which no check need find out again."""
        self._failures = MAX_MISSES
        self._leave()

    def _leave(self) -> None:
        if self.is_healthy:
            self.is_healthy = False
            self._desk.remove_endpoint(self.block.name)

    async def _check(self, seconds: float) -> None:
        try:
            timeout = aiohttp.ClientTimeout(total=seconds)
            async with self._session.get(f"{self.block.url}/health", timeout=timeout) as answer:
                well = answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            well = False
        self._failures = 0 if well else self._failures + 1
        if well and not self.is_healthy and not self.is_leaving:
            self.is_healthy = True
            self._desk.add_endpoint(self.block.name, self.block.weight, self.block.version)
        elif self._failures == 1:
            self._came_at_first_miss = {exchange: exchange.num_bytes for exchange in self._flying}
        elif self._failures >= MAX_MISSES:
            self._leave()
            self._give_up_silent_ones()

    def _give_up_silent_ones(self) -> None:
        for exchange in [*self._flying]:
            came = self._came_at_first_miss.setdefault(exchange, -1)
            if came == exchange.num_bytes:
                exchange.abandon()
            self._came_at_first_miss[exchange] = exchange.num_bytes

    async def _scrape(self) -> None:
        """Read the page that told something before, or each there may be; without news the last observation ages."""
        for page in [self._page] if self._page else PAGES:
            asked_at = time.monotonic()
            text = await self._read(page)
            if text is None:
                self._page = ""
                continue
            observation = read_observation(text, asked_at)
            if observation is not None:
                self._page = page
                self._desk.observe(self.block.name, observation)
                return

    async def _read(self, page: str) -> bytes | None:
        """Return a metrics page; None when there is none, or it cannot be had now."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        try:
            async with self._session.get(self.block.url + page, timeout=timeout) as answer:
                return await answer.read() if answer.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None
