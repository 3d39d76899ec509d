"""The gateway in simulated time: its own time per request, rate limits per tenant, and the way on to the router.

`replicas` gateways share one queue; each handles a request in `overhead`, one at a time, first come first served. For a
constant service time that is a recursion over departures, so a request costs no call here unless limits are checked.
Limits are shared between the gateway's replicas. What a request may use at most is its prompt and its answer, as a
client declares it in `max_tokens`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from reference.policy.rate_limits import Limit, RateLimits, Reservation
from reference.policy.view import Rejected
from sim.cluster.agenda import Call
from sim.cluster.clock import Clock, Turn
from sim.cluster.recorder import REFUSED, Recorder
from sim.cluster.router import Router
from sim.experiment.schema import Gateway as GatewaySettings
from sim.experiment.schema import RateLimit
from sim.experiment.workload import WorkloadRequest

EVERY_TENANT = "*"


def limits_from(rules: tuple[RateLimit, ...]) -> RateLimits | None:
    """Make the limits of a scenario; None when it has none."""
    if not rules:
        return None
    limits = {
        rule.tenant: Limit(rule.requests, rule.burst, rule.tokens, rule.token_burst, rule.concurrency) for rule in rules
    }
    default = limits.pop(EVERY_TENANT, None)
    return RateLimits(limits, default)


class Gateway:
    """llm-api of one flight. Requests come in order of sending."""

    def __init__(
        self,
        *,
        settings: GatewaySettings,
        clock: Clock,
        router: Router,
        recorder: Recorder,
        hop: float,
        router_overhead: float,
    ) -> None:
        self._overhead = settings.overhead
        self._limits = limits_from(settings.rate_limits)
        self._agenda = clock.agenda
        self._router = router
        self._recorder = recorder
        self._hop = hop
        self._to_router = hop + router_overhead
        self._way = hop + router_overhead if self._limits is None else 0.0
        """From this gateway to where a request is first decided about."""
        self.turn = int(Turn.ARRIVE if self._limits is None else Turn.GATEWAY)
        """In whose turn that is."""
        self._departures = deque([0.0] * settings.replicas)
        self._reservations: dict[int, Reservation] = {}
        if self._limits is not None:
            router.when_left = self._on_left

    def decided_at(self, request: WorkloadRequest) -> float:
        """Take the next request that is sent, and say when it is first decided about (see `entrance`)."""
        departures = self._departures
        come = request.scheduled + self._hop
        free_at = departures.popleft()
        departure = (come if come > free_at else free_at) + self._overhead
        departures.append(departure)
        return departure + self._way

    def entrance(self) -> Callable[[WorkloadRequest], Call | None]:
        """Give who decides about a request first: this gateway, or the router where there are no limits."""
        return self._router.on_arrival if self._limits is None else self._enter

    def _enter(self, request: WorkloadRequest) -> Call | None:
        """Admit a request and send it on, or refuse it."""
        limits = self._limits
        assert limits is not None
        now = self._agenda.now
        reserved = limits.reserve(request.tenant, request.input_tokens + request.output_tokens, now)
        if isinstance(reserved, Rejected):
            at, wait = now + self._hop, reserved.retry_after_seconds
            self._recorder.end(request.index, at, REFUSED, reserved.reason, reserved.status, wait)
            return None
        self._reservations[request.index] = reserved
        when = now + self._to_router
        return self._agenda.following(when, Turn.ARRIVE + request.index, self._router.on_arrival, request)

    def leave(self, request: WorkloadRequest) -> None:
        """Pass on that a client has gone."""
        now = self._agenda.now
        if self._limits is not None:
            self._close_at(now + self._hop, request, 0)
        self._agenda.call_at(now + 2 * self._hop, Turn.LEAVE + request.index, self._router.on_leave, request)

    def _on_left(self, request: WorkloadRequest, used_tokens: int | None) -> None:
        """A request has left the router; the gateway knows a hop later."""
        self._close_at(self._agenda.now + self._hop, request, used_tokens)

    def _close_at(self, when: float, request: WorkloadRequest, used_tokens: int | None) -> None:
        reservation = self._reservations.pop(request.index, None)
        if reservation is not None:
            turn = Turn.GATEWAY + request.index
            self._agenda.call_at(when, turn, self._close, (reservation, used_tokens))

    def _close(self, about: tuple[Reservation, int | None]) -> None:
        reservation, used_tokens = about
        limits = self._limits
        assert limits is not None
        if used_tokens is None:
            limits.refund(reservation, self._agenda.now)
        else:
            limits.settle(reservation, used_tokens, self._agenda.now)
