"""What the gateway asks of its rate limits, and the ones that are kept in its own process.

A request is held to two limits, its tenant's and its key's; it is admitted by both or takes from neither. Replicas of a
gateway share theirs through Redis: `reference.gateway.redis_limits`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from reference.gateway.settings import GatewaySettings, Policy
from reference.policy.rate_limits import Limit, RateLimits, Reservation
from reference.policy.view import Rejected
from reference.wire.asgi import Headers

_HEADER_NAMES = [(b"x-ratelimit-limit-" + what, b"x-ratelimit-remaining-" + what) for what in (b"requests", b"tokens")]

Left = tuple[int | None, int | None]
"""Whole requests and tokens that an account has left; None: no such limit."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The limits of every tenant and of every key. `default` is that of a tenant without its own."""

    tenants: Mapping[str, Limit]
    default: Limit | None
    keys: Mapping[str, Limit]

    def of(self, tenant: str, key: str) -> list[tuple[str, Limit]]:
        """Return the accounts that a request is held to, by name, with their limits."""
        limit = self.tenants.get(tenant, self.default)
        accounts = [] if limit is None else [(f"tenant {tenant}", limit)]
        if key in self.keys:
            accounts.append((f"key {key}", self.keys[key]))
        return accounts


class Admission(NamedTuple):
    """What was taken for a request, or why nothing was; with the headers that tell what is left."""

    rejected: Rejected | None
    headers: Headers
    reservations: tuple[Reservation, ...] = ()
    name: str = ""
    tokens: int = 0


class Limits(Protocol):
    """Rate limits as the gateway uses them. An admission that is not rejected is closed exactly once."""

    def change(self, rules: Rules) -> None:
        """Go by other rules from now on; what has been used stays used."""

    async def reserve(self, tenant: str, key: str, tokens: int) -> Admission:
        """Admit a request that may use up to so many tokens.

        Raises:
            ApiError: 503, nobody can say.
        """

    async def run(self) -> None:
        """Do what has to be done beside the requests, for ever."""

    def close(self, admission: Admission, used_tokens: int | None) -> None:
        """Settle for what was used, or give everything back when that is None: it never reached a model."""


class LocalLimits:
    """Limits of one gateway alone, kept in its process."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._limits = RateLimits(_by_account(rules), None)
        self._accounts_of: dict[tuple[str, str], tuple[list[str], list[tuple[int, int]]]] = {}

    def change(self, rules: Rules) -> None:
        """Go by other rules; an account keeps what it has used."""
        self._rules = rules
        self._accounts_of.clear()
        limits = _by_account(rules)
        if rules.default is not None:
            seen = [account for account in self._limits.limits if account.startswith("tenant ")]
            limits = dict.fromkeys(seen, rules.default) | limits
        self._limits.change(limits)

    async def reserve(self, tenant: str, key: str, tokens: int) -> Admission:
        """Admit a request, or say when to come back."""
        now = time.monotonic()
        accounts = self._accounts_of.get((tenant, key))
        if accounts is None:
            # tenants and keys are those of a file
            held = self._rules.of(tenant, key)
            for account, limit in held:
                self._limits.ensure(account, limit)
            accounts = [account for account, _ in held], [limit.sizes for _, limit in held]
            self._accounts_of[tenant, key] = accounts
        names, sizes = accounts
        taken: list[Reservation] = []
        rejected = None
        for account in names:
            reserved = self._limits.reserve(account, tokens, now)
            if isinstance(reserved, Rejected):
                rejected = reserved
                break
            taken.append(reserved)
        if rejected is not None:
            for reservation in taken:
                self._limits.refund(reservation, now)
        left = [self._limits.remaining(account, now) for account in names]
        headers = limit_headers(sizes, left)
        return Admission(rejected, headers, () if rejected else tuple(taken), tokens=tokens)

    async def run(self) -> None:
        """Nothing has to be done."""

    def close(self, admission: Admission, used_tokens: int | None) -> None:
        """Settle or refund."""
        now = time.monotonic()
        for reservation in admission.reservations:
            if used_tokens is None:
                self._limits.refund(reservation, now)
            else:
                self._limits.settle(reservation, used_tokens, now)


def limit_headers(sizes: list[tuple[int, int]], left: list[Left]) -> Headers:
    """Name how much there is at once (requests, tokens) and what of it is left, by the limit that has the least."""
    headers: Headers = []
    for place, (limit_name, remaining_name) in enumerate(_HEADER_NAMES):
        least, size = None, 0
        for account, rest in enumerate(left):
            known = rest[place]
            if known is not None and (least is None or known < least):
                least, size = known, sizes[account][place]
        if least is not None:
            headers += [(limit_name, b"%d" % size), (remaining_name, b"%d" % least)]
    return headers


def rules_of(policy: Policy) -> Rules:
    """Return the rules of keys and limits as they are written."""
    tenants = {tenant: block.limit() for tenant, block in policy.limits.items()}
    keys = {block.name: block.limit.limit() for block in policy.keys if block.limit is not None}
    return Rules(tenants, policy.default_limit.limit() if policy.default_limit else None, keys)


def limits_for(settings: GatewaySettings, policy: Policy) -> Limits:
    """Make the limits that settings ask for: shared through Redis where they name one, else of this process."""
    rules = rules_of(policy)
    if not settings.redis_url:
        return LocalLimits(rules)
    # the extra `redis` is needed by who shares limits
    from reference.gateway.redis_limits import RedisLimits

    mode, lease = settings.when_redis_is_away, settings.lease_seconds
    return RedisLimits(settings.redis_url, rules, lease_seconds=lease, mode=mode)


def _by_account(rules: Rules) -> dict[str, Limit]:
    named = {f"tenant {tenant}": limit for tenant, limit in rules.tenants.items()}
    return named | {f"key {key}": limit for key, limit in rules.keys.items()}
