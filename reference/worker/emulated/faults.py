"""Faults on demand, for chaos and tests: how the emulated worker misbehaves, set through its control routes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(slots=True)
class Faults:
    """What is wrong with this worker now. All at their defaults: nothing."""

    error_share: float = 0.0
    """Share of requests answered 500."""
    is_partitioned: bool = False
    """Connections are accepted and nothing is said; streams freeze. Control routes still answer."""
    die_after_tokens: int | None = None
    """Streams break off, without a word, after so many tokens."""
    end_after_tokens: int | None = None
    """Streams end cleanly after so many tokens, but without [DONE]."""
    first_byte_delay_seconds: float = 0.0
    drip_seconds: float = 0.0
    """Extra time between two chunks of a stream."""
    wrong_usage: bool = False
    counter: float = 0.0

    def takes_error(self) -> bool:
        """Say whether this request is one that fails; spread evenly, so that a share is met exactly."""
        self.counter += self.error_share
        if self.counter >= 1.0:
            self.counter -= 1.0
            return True
        return False

    async def while_partitioned(self) -> None:
        """Say nothing until the partition is over."""
        while self.is_partitioned:
            await asyncio.sleep(0.02)

    async def before_answer(self) -> None:
        """Wait as long as the faults say."""
        await self.while_partitioned()
        if self.first_byte_delay_seconds:
            await asyncio.sleep(self.first_byte_delay_seconds)
