"""Rate limits that the replicas of a gateway share through Redis, exact to the request.

Each decision is one run of `limits.lua`, so it is atomic, and goes by Redis' clock. A reservation holds a lease that
its gateway renews; when the gateway is gone, it runs out and what was reserved is there again. Exact through a restart
of Redis as far as Redis keeps its data (`appendonly yes`, `appendfsync always`).

While Redis is away nothing waits: a call may take `TIMEOUT_SECONDS`, after one that failed none is tried for
`PAUSE_SECONDS`, and `mode` says what happens to requests meanwhile: `refuse` (503) or `admit` without a limit. What is
closed meanwhile is told to Redis later; saying it twice does no harm.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from reference.gateway.limits import Admission, Left, Rules, limit_headers
from reference.policy.rate_limits import MICRO, Limit
from reference.policy.view import Rejected
from reference.wire.errors import ApiError

TIMEOUT_SECONDS = 0.25
PAUSE_SECONDS = 0.2
MAX_UNTOLD = 100_000
"""Closings that wait for Redis; beyond them the oldest are left to their leases."""

_SCRIPT = (Path(__file__).parent / "limits.lua").read_text()
_KINDS = {1: "concurrency", 2: "requests", 3: "tokens"}


class RedisLimits:
    """Shared limits of one gateway. `run`, a task that lives as long as it, renews leases and tells of closings."""

    def __init__(
        self,
        url: str,
        rules: Rules,
        *,
        lease_seconds: float,
        mode: str,
        prefix: str = "windtunnel",
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self.mode = mode
        self.is_away = False
        self._rules = rules
        self._prefix = prefix
        self._lease = lease_seconds
        self._timeout = timeout_seconds
        self._retry_at = 0.0
        self._held: dict[str, list[tuple[str, Limit]]] = {}
        self._untold: deque[tuple[str, str, int, list[tuple[str, Limit]]]] = deque(maxlen=MAX_UNTOLD)
        self._has_untold = asyncio.Event()
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )
        self._script = self._redis.register_script(_SCRIPT)

    def change(self, rules: Rules) -> None:
        """Go by other rules from now on; levels above a new burst are cut to it."""
        self._rules = rules

    async def reserve(self, tenant: str, key: str, tokens: int, *, now: int | None = None) -> Admission:
        """Admit a request, or say when to come back. `now` in microseconds is for tests; Redis has a clock.

        Raises:
            ApiError: 503, Redis is away and the mode is to refuse.
        """
        accounts = self._rules.of(tenant, key)
        if not accounts:
            return Admission(None, [])
        name = f"{secrets.token_hex(12)}:{tokens}"
        try:
            answer = await self._run("reserve", accounts, name, tokens, now)
        except RedisError as error:
            if self.mode == "admit":
                return Admission(None, [])
            raise ApiError(
                503, "the rate limits cannot be read now", code="limits_unavailable", retry_after_seconds=1.0
            ) from error
        if answer[0] == 1:
            self._held[name] = accounts
            return Admission(None, _headers(accounts, answer[1:]), name=name, tokens=tokens)
        _, place, kind, wait, *left = answer
        account, limit = accounts[place - 1]
        return Admission(_rejected(account, limit, _KINDS[kind], wait, tokens), _headers(accounts, left))

    def close(self, admission: Admission, used_tokens: int | None) -> None:
        """Settle or refund, soon: the request that it is about is over and waits for nothing."""
        accounts = self._held.pop(admission.name, None)
        if accounts is not None:
            action = "refund" if used_tokens is None else "settle"
            self._untold.append((action, admission.name, used_tokens or 0, accounts))
            self._has_untold.set()

    async def left(self, tenant: str, key: str, *, now: int | None = None) -> list[Left]:
        """Return what each account of a caller has left."""
        accounts = self._rules.of(tenant, key)
        return _pairs((await self._run("peek", accounts, "", 0, now))[1:])

    async def run(self) -> None:
        """Renew leases and tell of closings, for ever."""
        renewing = asyncio.create_task(self._renew_for_ever())
        try:
            while True:
                await self._has_untold.wait()
                self._has_untold.clear()
                await self.tell()
        finally:
            renewing.cancel()
            await self._redis.aclose()

    async def tell(self, *, now: int | None = None) -> None:
        """Tell Redis what has been closed, in order, until it knows."""
        while self._untold:
            action, name, used, accounts = self._untold[0]
            try:
                await self._run(action, accounts, name, used, now)
            except RedisError:
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self._untold.popleft()

    async def renew(self, *, now: int | None = None) -> None:
        """Renew the lease of every request under way."""
        for name, accounts in list(self._held.items()):
            if name in self._held:
                await self._run("renew", accounts, name, 0, now)

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            try:
                await self.renew()
            except RedisError:
                # away: whoever asks next is told, and the leases last for two more rounds
                continue

    async def _run(
        self, action: str, accounts: Sequence[tuple[str, Limit]], name: str, tokens: int, now: int | None
    ) -> list[int]:
        """Run the script once.

        Raises:
            RedisError: Redis is away, or was a moment ago.
        """
        if time.monotonic() < self._retry_at:
            raise RedisError("Redis was away a moment ago")
        keys = [f"{self._prefix}:{part}" for account, _ in accounts for part in _keys(account)]
        given: list[Any] = [action, "" if now is None else now, round(self._lease * MICRO), name, tokens]
        for _, limit in accounts:
            given += _numbers(limit)
        try:
            async with asyncio.timeout(2 * self._timeout):
                answer: list[int] = await self._script(keys=keys, args=given)
        except (RedisError, OSError, TimeoutError) as error:
            self.is_away = True
            self._retry_at = time.monotonic() + PAUSE_SECONDS
            raise RedisError(f"Redis is away: {error}") from error
        self.is_away = False
        return answer


def _keys(account: str) -> tuple[str, str, str]:
    return account, f"{account}:leases", f"{account}:late"


def _numbers(limit: Limit) -> list[int]:
    """Return a limit as the script takes it, rounded as `TokenBucket.full` does."""
    given: list[int] = []
    rates = ((limit.requests_per_second, limit.request_burst), (limit.tokens_per_second, limit.token_burst))
    for rate, burst in rates:
        if rate is None:
            given += [-1, -1]
        else:
            given += [round(rate * MICRO), (burst if burst is not None else max(1, round(rate))) * MICRO]
    return [*given, -1 if limit.concurrency is None else limit.concurrency]


def _pairs(left: Sequence[int]) -> list[Left]:
    told = [None if rest < 0 else rest for rest in left]
    return list(zip(told[::2], told[1::2], strict=True))


def _headers(accounts: Sequence[tuple[str, Limit]], left: Sequence[int]) -> list[tuple[bytes, bytes]]:
    return limit_headers([limit.sizes for _, limit in accounts], _pairs(left))


def _rejected(account: str, limit: Limit, what: str, wait: int, tokens: int) -> Rejected:
    """Say in the words of `reference.policy.rate_limits` why a request is not admitted."""
    if what == "concurrency":
        return Rejected(f"{limit.concurrency} requests of {account} are under way, which is its limit", wait / MICRO)
    if wait < 0:
        amount, burst = (1, _numbers(limit)[1]) if what == "requests" else (tokens, _numbers(limit)[3])
        return Rejected(f"{amount} {what} are more than {account} may ever use at once ({burst // MICRO})")
    return Rejected(f"{account} has used up its {what}", wait / MICRO)
