"""Looking at replicas: health decides whether they are endpoints, metrics are what policies know of them."""

from __future__ import annotations

import asyncio
import time

import aiohttp

from reference.policy.view import Observation
from reference.router.desk import Desk
from reference.router.settings import EndpointBlock

TIMEOUT_SECONDS = 2.0

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
    """Watches one replica for ever: adds it to its desk when it is healthy, removes it when it is not."""

    def __init__(self, block: EndpointBlock, desk: Desk, session: aiohttp.ClientSession) -> None:
        self.block = block
        self.is_healthy = False
        self._desk = desk
        self._session = session
        self._failures = 0

    async def look_at_health(self, interval: float) -> None:
        """Ask for `/health` at every interval; two misses in a row take the endpoint out, one answer takes it in."""
        while True:
            began = time.monotonic()
            await self._check()
            # a replica that is not there is asked more often, so that it is back soon after it is up
            pause = interval if self.is_healthy else min(interval, 0.5)
            await asyncio.sleep(max(0.0, pause - (time.monotonic() - began)))

    async def scrape(self, interval: float) -> None:
        """Read `/metrics` at every interval while the endpoint is healthy."""
        while True:
            if self.is_healthy:
                await self._scrape()
            await asyncio.sleep(interval)

    async def _check(self) -> None:
        try:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
            async with self._session.get(f"{self.block.url}/health", timeout=timeout) as answer:
                well = answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            well = False
        self._failures = 0 if well else self._failures + 1
        if well and not self.is_healthy:
            self.is_healthy = True
            self._desk.add_endpoint(self.block.name, self.block.weight, self.block.version)
        elif self.is_healthy and self._failures >= 2:
            self.is_healthy = False
            self._desk.remove_endpoint(self.block.name)

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
        if field is not None:
            found[field] = found.get(field, 0.0) + float(line.rsplit(b" ", 1)[1])
    if not found:
        return None
    return Observation(now, int(found.get("running", 0)), int(found.get("queue_depth", 0)), found.get("kv_usage", 0.0))
