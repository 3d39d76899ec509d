"""The life of an engine: started, awaited until it has really computed something, watched, started again, given up.

starting → ready ⇄ unwell → (ended) → waiting → starting → …  → stopped | given up
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from enum import Enum

import aiohttp

from reference.worker.ending import GAVE_UP, Ending
from reference.worker.supervised.child import Child, free_port
from reference.worker.supervised.recipe import EngineMetrics, Recipe
from reference.worker.supervised.restarts import Restarts
from reference.worker.supervised.settings import SupervisedSettings

POLL_SECONDS = 0.5
PROBE_SECONDS = 60.0
"""A first token may take this long: the engine may still be compiling."""
HEALTH_SECONDS = 5.0
MAX_MISSES = 2
"""Health checks missed in a row before an engine counts as unwell."""

_log = logging.getLogger(__name__)


class State(Enum):
    """Where an engine is in its life."""

    STARTING = "starting"
    READY = "ready"
    UNWELL = "unwell"
    """It runs and answers no health check; requests are still relayed to it."""
    WAITING = "waiting"
    """It has ended and will be started again."""
    GIVEN_UP = "given up"
    STOPPED = "stopped"


class Supervisor:
    """Keeps one engine alive. `run` is a task that lives as long as the server; `stop` ends engine and task."""

    def __init__(
        self,
        recipe: Recipe,
        settings: SupervisedSettings,
        session: aiohttp.ClientSession,
        ending: Ending,
        in_flight: Callable[[], int],
    ) -> None:
        self.state = State.STARTING
        self.url = ""
        self.num_starts = 0
        self.seconds_to_ready = 0.0
        """How long the last start took, until the first token."""
        self.metrics: EngineMetrics | None = None
        self._recipe = recipe
        self._settings = settings
        self._session = session
        self._ending = ending
        self._in_flight = in_flight
        self._restarts = Restarts(
            settings.max_restarts, settings.restart_base_seconds, settings.restart_max_seconds, settings.stable_seconds
        )
        self._child: Child | None = None
        self._ready_at: float | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def takes_requests(self) -> bool:
        """Whether there is an engine that requests can be relayed to."""
        return self.state in (State.READY, State.UNWELL)

    @property
    def pid(self) -> int | None:
        """The engine's process group, None when none runs."""
        return self._child.pid if self._child is not None and not self._child.has_ended else None

    def start(self) -> None:
        """Begin to keep an engine alive."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._check)

    async def stop(self) -> None:
        """End the engine: SIGTERM, and SIGKILL when it takes too long."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.state = State.STOPPED
        if self._child is not None:
            await self._child.stop(self._settings.stop_seconds)

    def _check(self, task: asyncio.Task[None]) -> None:
        """End this process when keeping the engine alive has failed by a mistake of ours, or by a missing program."""
        if not task.cancelled() and task.exception() is not None:
            _log.error("%s cannot be kept alive", self._recipe.name, exc_info=task.exception())
            self.state = State.GIVEN_UP
            self._ending.because(GAVE_UP)

    async def _run(self) -> None:
        while True:
            ready_seconds = await self._live_once()
            wait = self._restarts.after(ready_seconds)
            if wait is None:
                self.state = State.GIVEN_UP
                _log.error("%s ended %d times in a row: given up", self._recipe.name, self._restarts.count)
                self._ending.because(GAVE_UP)
                return
            self.state = State.WAITING
            _log.warning("%s is started again in %.1f s (%d)", self._recipe.name, wait, self._restarts.count)
            await asyncio.sleep(wait)

    async def _live_once(self) -> float:
        """Start the engine and see it to its end; return for how many seconds it was ready."""
        port = self._settings.engine_port or free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.state, self._ready_at = State.STARTING, None
        self.num_starts += 1
        environment = {**os.environ, **self._recipe.environment, **self._settings.environment}
        child = self._child = await Child.start(self._recipe.command(port), environment)
        watching, ended = asyncio.create_task(self._watch(child)), asyncio.create_task(child.wait())
        try:
            await asyncio.wait({watching, ended}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                # it has ended the engine, or has failed, and then an engine would be unwatched
                child.kill()
                watching.result()
            code = await ended
        finally:
            watching.cancel()
            ended.cancel()
        _log.warning("%s ended with code %d", self._recipe.name, code)
        return 0.0 if self._ready_at is None else time.monotonic() - self._ready_at

    async def _watch(self, child: Child) -> None:
        """See to it that the engine becomes ready and stays well; end it when it does not."""
        began = time.monotonic()
        try:
            await asyncio.wait_for(self._until_first_token(), self._settings.start_seconds)
        except TimeoutError:
            _log.error("%s has computed nothing in %.0f s", self._recipe.name, self._settings.start_seconds)
            await child.stop(self._settings.stop_seconds)
            return
        self._ready_at = time.monotonic()
        self.seconds_to_ready = self._ready_at - began
        self.state = State.READY
        _log.warning("%s ready after %.1f s", self._recipe.name, self.seconds_to_ready)
        self.metrics = self._recipe.metrics(self._session, self.url, self._in_flight)
        reading = asyncio.create_task(self.metrics.run())
        try:
            await self._while_well()
        finally:
            reading.cancel()
        _log.error("%s has not answered for %.0f s: killed", self._recipe.name, self._settings.hang_seconds)
        child.kill()

    async def _until_first_token(self) -> None:
        while not (await self._is_healthy() and await self._computes()):
            await asyncio.sleep(POLL_SECONDS)

    async def _while_well(self) -> None:
        """Return when the engine has hung for too long."""
        well_at, misses = time.monotonic(), 0
        while time.monotonic() - well_at < self._settings.hang_seconds:
            await asyncio.sleep(self._settings.health_interval_seconds)
            if await self._is_healthy():
                well_at, misses = time.monotonic(), 0
                self.state = State.READY
                continue
            misses += 1
            if misses >= MAX_MISSES:
                self.state = State.UNWELL

    async def _is_healthy(self) -> bool:
        try:
            timeout = aiohttp.ClientTimeout(total=min(HEALTH_SECONDS, self._settings.hang_seconds))
            async with self._session.get(self.url + self._recipe.health_path, timeout=timeout) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def _computes(self) -> bool:
        """Ask for something that only a loaded model can answer."""
        first = self._recipe.first_request
        try:
            timeout = aiohttp.ClientTimeout(total=PROBE_SECONDS)
            async with self._session.post(self.url + first.path, json=dict(first.body), timeout=timeout) as answer:
                if answer.status != 200:
                    text = (await answer.text())[:300]
                    _log.warning("%s answered %d to a first request: %s", self._recipe.name, answer.status, text)
                    return False
                return first.proves(await answer.json())
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return False
