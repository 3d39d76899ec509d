"""Limits that three gateways share through a real Redis, against the in-process ones with leases told beside them."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reference.gateway.limits import Admission, Rules
from reference.gateway.redis_limits import RedisLimits
from reference.policy.rate_limits import MICRO, Limit, RateLimits, Reservation
from reference.policy.view import Rejected
from reference.wire.errors import ApiError

pytestmark = pytest.mark.redis

LEASE, LATE = 30, 3600
serial = itertools.count()
rates = st.floats(0.01, 50) | st.floats(0.001, 0.1)
limits = st.one_of(
    st.builds(Limit, rates, st.integers(2, 8), rates, st.integers(100, 2000), st.integers(2, 6)),
    st.builds(Limit, rates, st.none() | st.integers(1, 8), rates, st.none() | st.integers(1, 500)),
    st.builds(Limit, concurrency=st.integers(0, 4)),
    st.builds(Limit, tokens_per_second=st.just(0.0) | st.floats(1000, 5e6), token_burst=st.integers(10**6, 10**8)),
)
Operation = st.one_of(
    st.tuples(st.just("reserve"), st.integers(0, 2), st.sampled_from(["red", "red", "blue"]), st.integers(0, 300)),
    st.tuples(st.just("reserve"), st.integers(0, 2), st.just("red"), st.integers(0, 10**6)),
    st.tuples(st.just("close"), st.integers(0, 20), st.none() | st.integers(0, 900)),
    st.tuples(st.just("renew"), st.integers(0, 2)),
    st.tuples(st.just("time_passes"), st.floats(0, 5) | st.floats(20, 40) | st.floats(0, 20_000)),
)


@dataclass
class Held:
    """A request under way: at which gateway, what it took, and what the model took for it."""

    gateway: int
    key: str
    admission: Admission
    reservations: list[Reservation]
    expires: int
    is_given_back: bool = False


class SharedLimits:
    """Gateways that reserve, settle, refund, renew and die; a model that is two RateLimits calls an account."""

    def __init__(self, url: str, tenant: Limit, key: Limit, default: Limit | None) -> None:
        self.url = url
        self.runner = asyncio.Runner()
        self.rules = Rules({"red": tenant}, default, {"k1": key})
        prefix = f"test-{next(serial)}"
        self.gateways = [self.runner.run(self.connect(prefix)) for _ in range(3)]
        named = {"tenant red": tenant, "key k1": key} | ({"tenant blue": default} if default else {})
        self.model = RateLimits(named)
        self.now = 10**15
        self.under_way: list[Held] = []

    async def connect(self, prefix: str) -> RedisLimits:
        return RedisLimits(self.url, self.rules, lease_seconds=LEASE, mode="refuse", prefix=prefix, timeout_seconds=20)

    def time_passes(self, seconds: float) -> None:
        self.now += round(seconds * MICRO)

    def expire(self) -> None:
        """Give back what nobody has renewed, each as of its own moment."""
        for one in sorted(self.under_way, key=lambda one: one.expires):
            if one.expires <= self.now and not one.is_given_back:
                one.is_given_back = True
                for reservation in one.reservations:
                    self.model.refund(reservation, one.expires / MICRO)

    def reserve(self, gateway: int, caller: str, tokens: int) -> None:
        key = "k1" if caller == "red" else "k2"
        self.expire()
        accounts = [account for account, _ in self.rules.of(caller, key)]
        taken: list[Reservation] = []
        expected: Rejected | None = None
        for account in accounts:
            answer = self.model.reserve(account, tokens, self.now / MICRO)
            if isinstance(answer, Rejected):
                expected = answer
                for reservation in taken:
                    self.model.refund(reservation, self.now / MICRO)
                taken = []
                break
            taken.append(answer)

        admission = self.runner.run(self.gateways[gateway].reserve(caller, key, tokens, now=self.now))

        assert admission.rejected == expected
        if expected is None:
            self.under_way.append(Held(gateway, key, admission, taken, self.now + LEASE * MICRO))

    def close(self, place: int, used: int | None) -> None:
        self.expire()
        if not self.under_way:
            return
        one = self.under_way.pop(place % len(self.under_way))
        for reservation in one.reservations:
            if one.is_given_back and used is not None and self.now < one.expires + LATE * MICRO:
                # it is taken again, whatever is there
                account = self.model._account(reservation.key)
                assert account is not None
                account.in_flight += 1
                for bucket, amount in ((account.requests, 1), (account.tokens, reservation.tokens)):
                    if bucket is not None:
                        bucket.refill(self.now)
                        bucket.level -= amount * MICRO
                self.model.settle(reservation, used, self.now / MICRO)
            elif not one.is_given_back and used is None:
                self.model.refund(reservation, self.now / MICRO)
            elif not one.is_given_back and used is not None:
                self.model.settle(reservation, used, self.now / MICRO)
        gateway = self.gateways[one.gateway]
        gateway.close(one.admission, used)
        gateway.close(one.admission, used)
        self.runner.run(gateway.tell(now=self.now))

    def renew(self, gateway: int) -> None:
        self.expire()
        self.runner.run(self.gateways[gateway].renew(now=self.now))
        for one in self.under_way:
            if one.gateway == gateway and not one.is_given_back:
                one.expires = self.now + LEASE * MICRO

    def compare(self) -> None:
        """Every account has the same left, here and there."""
        self.expire()
        for caller, key in (("red", "k1"), ("blue", "k2")):
            accounts = [account for account, _ in self.rules.of(caller, key)]
            told = self.runner.run(self.gateways[0].left(caller, key, now=self.now)) if accounts else []
            assert told == [self.model.remaining(account, self.now / MICRO) for account in accounts]

    def end(self) -> None:
        for gateway in self.gateways:
            self.runner.run(gateway._redis.aclose())
        self.runner.close()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tenant=limits, key=limits, default=st.none() | limits, operations=st.lists(Operation, min_size=8, max_size=40))
def test_three_gateways_admit_as_one_would(redis_server, tenant, key, default, operations) -> None:
    shared = SharedLimits(redis_server.url, tenant, key, default)
    try:
        for name, *about in operations:
            getattr(shared, name)(*about)
            shared.compare()
    finally:
        shared.end()


ONE = Rules({"red": Limit(requests_per_second=0.000001, request_burst=10, concurrency=8)}, None, {})


async def test_redis_away_is_told_at_once_and_forgotten_when_it_is_back(redis_server) -> None:
    limits = RedisLimits(redis_server.url, ONE, lease_seconds=30, mode="refuse", prefix="away")
    assert (await limits.reserve("red", "k", 1)).rejected is None
    redis_server.kill()
    try:
        for _ in range(20):
            began = time.monotonic()
            with pytest.raises(ApiError, match="cannot be read"):
                await limits.reserve("red", "k", 1)
            assert time.monotonic() - began < 2.0
    finally:
        redis_server.start()
    await asyncio.sleep(0.25)

    assert await limits.left("red", "k") == [(9, None)], "what was reserved before the restart is still reserved"
    await limits._redis.aclose()


async def test_to_admit_while_redis_is_away_is_a_mode(redis_server) -> None:
    limits = RedisLimits("redis://127.0.0.1:1/0", ONE, lease_seconds=30, mode="admit")

    for _ in range(30):
        admission = await limits.reserve("red", "k", 1)
        assert admission.rejected is None
        limits.close(admission, 1)
    assert limits.is_away
    await limits._redis.aclose()


async def test_what_was_closed_while_redis_was_away_is_told_later_and_once(redis_server) -> None:
    limits = RedisLimits(redis_server.url, ONE, lease_seconds=30, mode="refuse", prefix="later")
    running = asyncio.create_task(limits.run())
    admissions = [await limits.reserve("red", "k", 1) for _ in range(4)]
    redis_server.kill()
    for admission in admissions:
        limits.close(admission, None)
    await asyncio.sleep(0.3)
    redis_server.start()
    async with asyncio.timeout(5):
        while limits._untold:
            await asyncio.sleep(0.05)

    assert await limits.left("red", "k") == [(10, None)]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
