"""Looking at replicas: health decides whether they are endpoints, metrics are what policies know of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from math import isfinite

import aiohttp

from reference.policy.view import Observation
from reference.router.desk import Desk
from reference.router.settings import EndpointBlock
from reference.wire.relay import Exchange

TIMEOUT_SECONDS = 2.0
HURRY_SECONDS = 0.5
MAX_MISSES = 2
"""Health checks missed in a row before a replica is no endpoint any more."""

_GAUGES = {
    b"vllm:num_requests_running": "running",
    b"trtllm_num_requests_running": "running",
    b"vllm:num_requests_waiting": "queue_depth",
    b"trtllm_num_requests_waiting": "queue_depth",
    b"vllm:kv_cache_usage_perc": "kv_usage",
    b"vllm:gpu_cache_usage_perc": "kv_usage",
    b"trtllm_kv_cache_utilization": "kv_usage",
}
"""Metric name → field of an observation; vLLM's older name for KV cache usage included."""


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
        """Read `/metrics` at every interval while the endpoint is healthy."""
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
        try:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
            async with self._session.get(f"{self.block.url}/metrics", timeout=timeout) as answer:
                text = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError):
            # no news: the policy keeps the old observation and sees its age
            return
        observation = read_observation(text, time.monotonic())
        if observation is not None:
            self._desk.observe(self.block.name, observation)


def read_observation(text: bytes, now: float) -> Observation | None:
    """Read the gauges of vLLM or TensorRT-LLM out of Prometheus' text; None when none of them is there."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        name = line.split(b"{", 1)[0].split(b" ", 1)[0]
        field = _GAUGES.get(name)
        value = _number(line) if field is not None else None
        if field is not None and value is not None:
            found[field] = found.get(field, 0.0) + value
    if not found:
        return None
    return Observation(now, int(found.get("running", 0)), int(found.get("queue_depth", 0)), found.get("kv_usage", 0.0))


def _number(line: bytes) -> float | None:
    """Return the value at the end of a line; None when it is none, as of a page that was cut off."""
    try:
        value = float(line.rsplit(b" ", 1)[-1])
    except ValueError:
        return None
    return value if isfinite(value) else None
