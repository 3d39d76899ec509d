"""Asks an endpoint stage by stage, over a closed loop, and gives way: to refusals, to errors, and to others' traffic.

Before each stage nothing of ours is in flight, so what the engine's page shows then is others'. A short request alone
is sent again before each stage, too; when it takes far longer than it did at first, somebody else is in the way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import aiohttp

from e2e.probe.ladder import Ask, Budget, Stage
from e2e.replay.plan import body_of
from e2e.replay.prompts import Prompter
from e2e.replay.sse import Stream, reason_of
from sim.experiment.workload import WorkloadRequest
from sim.fidelity.composition import CLOCK_SECONDS

if TYPE_CHECKING:
    from e2e.probe.engine_page import EnginePage

SENTINEL: Final = Ask(32, 9)
INFLATED: Final = 3.0
"""Times what a request alone took at first, from which on others are in the way."""
PATIENCE: Final = 4
"""Looks, a second or two apart, after which a stage is flown beside others' traffic, or the probe ends."""
PAUSE_SECONDS: Final = 2.0
MAX_PAUSE_SECONDS: Final = 30.0
MOST_FAILURES: Final = 3
STALL_SECONDS: Final = 60.0
REFUSALS: Final = (429, 503)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that came whole. Seconds on the monotonic clock, tokens as the endpoint counts them."""

    sent: float
    first_token: float
    last_token: float
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    num_instants: int
    """At which text came: fewer than tokens where these have no text, or were held up on their way and came at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where to ask, and how."""

    url: str
    """Of chat completions."""
    model: str
    prompter: Prompter
    takes_exact_lengths: bool
    api_key: str | None = None
    verify_tls: bool = True
    look: Callable[[], EnginePage | None] = lambda: None
    """Reads the engine's page, blocking; None where there is none."""


class Refused(Exception):
    """The endpoint will not take a request now."""

    def __init__(self, status: int, after_seconds: float | None) -> None:
        super().__init__(f"the endpoint answered {status}")
        self.after_seconds = after_seconds


class Failed(Exception):
    """An answer did not come whole."""


@dataclass(slots=True)
class Prober:
    """Asks once up the ladder. `answers` and `notes` hold what came so far."""

    endpoint: Endpoint
    budget: Budget
    told: Callable[[float], None] = lambda _: None
    """Given the share that is done."""
    pause_seconds: float = PAUSE_SECONDS
    """Between looks at others' traffic, and after a refusal that does not say for how long."""
    answers: list[Answer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _most_streams: int = 1 << 30
    _num_sent: int = 0
    _num_failed: int = 0
    _usual_seconds: float = 0.0
    _ends_at: float = 0.0
    _busy_stages: list[str] = field(default_factory=list)

    async def climb(self, stages: tuple[Stage, ...]) -> None:
        """Ask stage after stage until all is asked, the budget is spent, or the endpoint has had enough."""
        self._ends_at = time.monotonic() + self.budget.max_seconds
        headers = {"Authorization": f"Bearer {self.endpoint.api_key}"} if self.endpoint.api_key else {}
        connector = aiohttp.TCPConnector(limit=0, ssl=self.endpoint.verify_tls)
        timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_read=STALL_SECONDS)
        async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as client:
            total, done = sum(len(stage.asks) for stage in stages), 0
            for stage in stages:
                if stage.streams <= self._most_streams:
                    if not await self._is_clear(client, stage):
                        break
                    await self._fly(client, stage)
                if why := self._why_end():
                    self.notes.append(f"ended at {stage.name}: {why}")
                    break
                done += len(stage.asks)
                self.told(done / total)
        if self._busy_stages:
            self.notes.append(f"others' requests were running before: {', '.join(self._busy_stages)}")

    def _why_end(self) -> str:
        if self._num_failed >= MOST_FAILURES:
            return f"{self._num_failed} requests failed"
        if self._most_streams < 1:
            return "the endpoint refused one request at a time"
        if time.monotonic() >= self._ends_at:
            return f"--max-seconds {self.budget.max_seconds:g} were over"
        if self._num_sent >= self.budget.max_requests:
            return f"--max-requests {self.budget.max_requests} were sent"
        return ""

    async def _is_clear(self, client: aiohttp.ClientSession, stage: Stage) -> bool:
        """Wait until nobody else is served, for a while; say whether to go on."""
        for look in range(PATIENCE):
            page = await asyncio.to_thread(self.endpoint.look)
            if page is None or not page.in_flight:
                break
            await asyncio.sleep(self.pause_seconds / 2)
            if look == PATIENCE - 1:
                self._busy_stages.append(stage.name)
        for _ in range(PATIENCE):
            if self._why_end() or not (seconds := await self._sentinel(client)):
                return not self._why_end()
            self._usual_seconds = min(self._usual_seconds or seconds, seconds)
            if seconds <= INFLATED * self._usual_seconds:
                return True
            await asyncio.sleep(self.pause_seconds)
        self.notes.append(
            f"ended before {stage.name}: a request alone took over {INFLATED:g} times as long as at first; others are "
            "being served"
        )
        return False

    async def _sentinel(self, client: aiohttp.ClientSession) -> float:
        """Send one short request alone; return how long it took, 0 when it failed."""
        before = len(self.answers)
        await self._fly(client, Stage("a request alone", 1, (SENTINEL,)))
        found = self.answers[before:]
        return found[0].last_token - found[0].sent if found else 0.0

    async def _fly(self, client: aiohttp.ClientSession, stage: Stage) -> None:
        waiting = iter(stage.asks)
        refusals = [
            refused
            for refused in await asyncio.gather(*(self._client(client, waiting) for _ in range(stage.streams)))
            if refused is not None
        ]
        if refusals:
            self._most_streams = min(self._most_streams, stage.streams // 2)
            self.notes.append(f"{refusals[0]} at {stage.streams} at a time; no more than {self._most_streams} since")
            told = [refused.after_seconds for refused in refusals if refused.after_seconds is not None]
            await asyncio.sleep(min(MAX_PAUSE_SECONDS, max(told, default=self.pause_seconds)))

    async def _client(self, client: aiohttp.ClientSession, waiting: Iterator[Ask]) -> Refused | None:
        """Send one request after another until none waits, or the endpoint refuses."""
        for ask in waiting:
            if self._why_end():
                return None
            self._num_sent += 1
            try:
                self.answers.append(await self._ask(client, ask))
            except Refused as refused:
                # whoever else is in flight ends by himself; nothing more is sent in this stage
                for _ in waiting:
                    pass
                return refused
            except (Failed, aiohttp.ClientError, TimeoutError, OSError) as error:
                self._num_failed += 1
                self.notes.append(f"a request of {ask.input_tokens} tokens failed: {error or type(error).__name__}")
        return None

    async def _ask(self, client: aiohttp.ClientSession, ask: Ask) -> Answer:
        endpoint = self.endpoint
        request = WorkloadRequest(self._num_sent, 0.0, ask.input_tokens, ask.output_tokens, endpoint.model)
        body = body_of(request, endpoint.model, endpoint.prompter, endpoint.takes_exact_lengths)
        stream, sent = Stream(), time.monotonic()
        async with client.post(endpoint.url, data=body, headers={"Content-Type": "application/json"}) as response:
            if response.status in REFUSALS:
                raise Refused(response.status, _seconds(response.headers.get("Retry-After")))
            if response.status != 200:
                raise Failed(f"{response.status} {_reason(await response.read())}")
            async for line in response.content:
                stream.feed(line, time.monotonic())
        if stream.error or not stream.is_done or not stream.chunk_times:
            raise Failed(stream.error or ("no token came" if stream.is_done else "ended without [DONE]"))
        given, got, cached = stream.usage or (ask.input_tokens, len(stream.chunk_times), 0)
        return Answer(sent, stream.chunk_times[0], stream.chunk_times[-1], given, got, cached, _instants(stream))


def _instants(stream: Stream) -> int:
    return 1 + sum(later - sooner > CLOCK_SECONDS for sooner, later in pairwise(stream.chunk_times))


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after and retry_after.isdecimal() else None


def _reason(body: bytes) -> str:
    import orjson

    try:
        return reason_of(orjson.loads(body))
    except orjson.JSONDecodeError:
        return body[:200].decode("utf-8", "replace")
