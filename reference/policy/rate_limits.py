"""Admission at the gateway: token buckets for requests and for tokens, and a bound on concurrency, per key.

A request is admitted in three acts. `reserve` takes one request and as many tokens as it may use at most; `settle`
gives back, or takes, the difference to what it did use; `refund` gives everything back when it never reached a worker.

Levels are integers in millionths, so that the arithmetic is exact and the same in a Redis script. A bucket is
(level, carry, updated_at in microseconds); after `elapsed` microseconds

    gained, carry = divmod(rate * elapsed + carry, 10**6)        level = min(burst, level + gained)

and a full bucket carries nothing. Redis' Lua has doubles only, exact up to 2**53: a script lets time pass by an hour at
most in one piece, and multiplies rate div 10**6 and rate mod 10**6 apart. `now` comes from one clock; a `now` before
the last one counts as the last one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from reference.policy.view import Rejected

MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Limit:
    """The limits of one key. None: no such limit. A burst defaults to one second's worth, at least 1."""

    requests_per_second: float | None = None
    request_burst: int | None = None
    tokens_per_second: float | None = None
    token_burst: int | None = None
    concurrency: int | None = None

    @property
    def sizes(self) -> tuple[int, int]:
        """Requests and tokens that may be used at once, 0 where there is no such limit."""
        return _size(self.requests_per_second, self.request_burst), _size(self.tokens_per_second, self.token_burst)


class Reservation(NamedTuple):
    """What was taken for a request. Lives from `reserve` to `settle` or `refund`, exactly one of them."""

    key: str
    tokens: int


@dataclass(slots=True)
class TokenBucket:
    """Fills at `rate` micro-units per microsecond up to `burst`; never holds more, may owe after a settlement."""

    rate: int
    """Micro-units per second."""
    burst: int
    """Micro-units."""
    level: int
    updated_at: int
    """Microseconds."""
    carry: int = 0
    """Millionths of a micro-unit that have been gained and are not in `level` yet."""

    @classmethod
    def full(cls, per_second: float, burst: int | None) -> TokenBucket:
        """Make a bucket that starts full at time zero."""
        size = _size(per_second, burst) * MICRO
        return cls(round(per_second * MICRO), size, size, 0)

    def refill(self, now: int) -> None:
        """Let time pass."""
        if now <= self.updated_at:
            return
        gained, self.carry = divmod(self.rate * (now - self.updated_at) + self.carry, MICRO)
        self.updated_at = now
        self.level += gained
        if self.level >= self.burst:
            self.level, self.carry = self.burst, 0

    def give(self, amount: int) -> None:
        """Put micro-units in, as far as they fit."""
        self.level += amount
        if self.level >= self.burst:
            self.level, self.carry = self.burst, 0

    def wait(self, amount: int) -> float | None:
        """Return the seconds until `amount` is there, 0 when it is, None when it never will be."""
        missing = amount - self.level
        if missing <= 0:
            return 0.0
        if amount > self.burst or self.rate == 0:
            return None
        return -((self.carry - missing * MICRO) // self.rate) / MICRO


@dataclass(slots=True)
class _Account:
    requests: TokenBucket | None
    tokens: TokenBucket | None
    concurrency: int | None
    in_flight: int = 0


@dataclass(slots=True)
class RateLimits:
    """The limits of all keys at one gateway. `limits` by key; `default` for each key without its own."""

    limits: dict[str, Limit] = field(default_factory=dict)
    default: Limit | None = None
    _accounts: dict[str, _Account] = field(default_factory=dict)

    def reserve(self, key: str, tokens: int, now: float) -> Reservation | Rejected:
        """Admit a request that may use up to `tokens` tokens (prompt and answer), or say when to come back."""
        account = self._account(key)
        if account is None:
            return Reservation(key, 0)
        if account.concurrency is not None and account.in_flight >= account.concurrency:
            return Rejected(f"{account.concurrency} requests of {key} are under way, which is its limit", 1.0)
        moment = round(now * MICRO)
        for bucket, amount, what in ((account.requests, 1, "requests"), (account.tokens, tokens, "tokens")):
            if bucket is None:
                continue
            bucket.refill(moment)
            if bucket.level >= amount * MICRO:
                continue
            wait = bucket.wait(amount * MICRO)
            if wait is None:
                return Rejected(f"{amount} {what} are more than {key} may ever use at once ({bucket.burst // MICRO})")
            if wait:
                return Rejected(f"{key} has used up its {what}", wait)
        if account.requests is not None:
            account.requests.level -= MICRO
        if account.tokens is not None:
            account.tokens.level -= tokens * MICRO
        account.in_flight += 1
        return Reservation(key, tokens)

    def settle(self, reservation: Reservation, used_tokens: int, now: float) -> None:
        """Close a request that used `used_tokens`: what it did not use is given back, what it used beyond is owed."""
        self._close(reservation, reservation.tokens - used_tokens, 0, now)

    def refund(self, reservation: Reservation, now: float) -> None:
        """Close a request that never reached a worker, as if it had not come."""
        self._close(reservation, reservation.tokens, 1, now)

    def remaining(self, key: str, now: float) -> tuple[int | None, int | None]:
        """Return the (requests, tokens) that are left, for the X-RateLimit headers; None: no such limit."""
        account = self._account(key)
        if account is None:
            return None, None
        moment = round(now * MICRO)
        return _left(account.requests, moment), _left(account.tokens, moment)

    def ensure(self, key: str, limit: Limit) -> None:
        """Let a key have a limit of its own, unless it has one."""
        self.limits.setdefault(key, limit)

    def change(self, limits: dict[str, Limit]) -> None:
        """Go by other limits. What a key has used it has used under them, too, and who is under way stays so."""
        self.limits = limits
        for key, old in list(self._accounts.items()):
            del self._accounts[key]
            new = self._account(key)
            if new is not None:
                new.in_flight = old.in_flight
                _take_over(old.requests, new.requests)
                _take_over(old.tokens, new.tokens)

    def _account(self, key: str) -> _Account | None:
        account = self._accounts.get(key)
        if account is None:
            limit = self.limits.get(key, self.default)
            if limit is None:
                return None
            account = _Account(
                _bucket(limit.requests_per_second, limit.request_burst),
                _bucket(limit.tokens_per_second, limit.token_burst),
                limit.concurrency,
            )
            self._accounts[key] = account
        return account

    def _close(self, reservation: Reservation, tokens: int, requests: int, now: float) -> None:
        account = self._account(reservation.key)
        if account is None:
            return
        account.in_flight -= 1
        moment = round(now * MICRO)
        for bucket, amount in ((account.requests, requests), (account.tokens, tokens)):
            if bucket is not None and amount:
                bucket.refill(moment)
                bucket.give(amount * MICRO)


def _left(bucket: TokenBucket | None, moment: int) -> int | None:
    if bucket is None:
        return None
    if bucket.updated_at < moment:
        bucket.refill(moment)
    return bucket.level // MICRO if bucket.level > 0 else 0


def _size(per_second: float | None, burst: int | None) -> int:
    if burst is not None:
        return burst
    return 0 if per_second is None else max(1, round(per_second))


def _bucket(per_second: float | None, burst: int | None) -> TokenBucket | None:
    return None if per_second is None else TokenBucket.full(per_second, burst)


def _take_over(old: TokenBucket | None, new: TokenBucket | None) -> None:
    """Give a bucket what another one has left, as far as it fits."""
    if old is not None and new is not None:
        new.level, new.carry, new.updated_at = min(old.level, new.burst), 0, old.updated_at
