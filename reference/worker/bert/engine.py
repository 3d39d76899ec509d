"""The engine of a bert worker: texts in from the event loop, batches through one thread, rows back.

The event loop only moves lists about: tokenizing has a thread, and the model has another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from reference.wire.errors import ApiError
from reference.worker.bert.batching import BatchQueue, BatchRules, Text
from reference.worker.bert.metrics import BertMetrics


class Model(Protocol):
    """What the engine needs of a model; blocking calls."""

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts."""

    def compute(self, batch: Sequence[Sequence[int]]) -> Any:
        """Return a row for each text."""


class BatchEngine:
    """Gathers texts into batches and computes them. `run` is a task that lives as long as the server."""

    def __init__(self, rules: BatchRules, max_queued: int, metrics: BertMetrics) -> None:
        self.queue = BatchQueue(rules)
        self._max_queued = max_queued
        self._metrics = metrics
        self._work = asyncio.Event()
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenize")
        self._computing = ThreadPoolExecutor(1, thread_name_prefix="compute")
        self._model: Model | None = None

    async def load(self, make: Callable[[], Model]) -> Model:
        """Make the model in the thread that will compute it."""
        self._model = await asyncio.get_running_loop().run_in_executor(self._computing, make)
        return self._model

    async def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts."""
        assert self._model is not None
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, self._model.tokenize, texts)

    async def rows(self, texts: Sequence[list[int]]) -> list[Any]:
        """Return the row of each text. Cancelling this is the client leaving: its texts leave the queue.

        Raises:
            ApiError: 429, too many texts wait already.
        """
        if len(self.queue) + len(texts) > self._max_queued and len(self.queue):
            raise ApiError(
                429,
                f"{len(self.queue):,} texts wait already; at most {self._max_queued:,} may",
                code="queue_full",
                retry_after_seconds=1.0,
            )
        loop, now = asyncio.get_running_loop(), time.monotonic()
        waiting = [Text(tokens, now, loop.create_future()) for tokens in texts]
        for text in waiting:
            self.queue.put(text)
        self._work.set()
        try:
            return [await text.owner for text in waiting]
        finally:
            for text in waiting:
                self.queue.leave(text)
                # one that failed as a part of a whole batch is told of once, by the first
                if text.owner.done() and not text.owner.cancelled():
                    text.owner.exception()

    async def run(self) -> None:
        """Compute batches for ever."""
        while True:
            await self._wait_for_batch()
            batch = self.queue.take()
            if batch:
                await self._compute(batch)

    def close(self) -> None:
        """Let the threads go when they are done."""
        self._tokenizing.shutdown(wait=False, cancel_futures=True)
        self._computing.shutdown(wait=False, cancel_futures=True)

    async def _wait_for_batch(self) -> None:
        """Wait until a batch is full, or its oldest text has waited long enough."""
        while True:
            self._work.clear()
            ready_at = self.queue.ready_at()
            if ready_at is None:
                await self._work.wait()
                continue
            wait = ready_at - time.monotonic()
            if wait <= 0:
                return
            try:
                await asyncio.wait_for(self._work.wait(), wait)
            except TimeoutError:
                return

    async def _compute(self, batch: list[Text]) -> None:
        assert self._model is not None
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            rows = await loop.run_in_executor(self._computing, self._model.compute, [text.tokens for text in batch])
        except Exception as error:
            # this batch is lost and its clients are told; the next one may be computed
            self._metrics.failed_batches.inc()
            for text in batch:
                if not text.owner.done():
                    text.owner.set_exception(error)
            return
        self._metrics.computed(batch, began, time.monotonic())
        for text, row in zip(batch, rows, strict=True):
            if not text.owner.done():
                text.owner.set_result(row)
