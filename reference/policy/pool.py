"""One model's endpoints and everything that is decided about them: queue, routing, retry, ejection, drain.

Sans I/O: events go in with `now`, actions come out, and the caller carries them out. The asyncio router and the
simulated router are two such callers. Life of a request: `submit` → (queued →) `Dispatch` → `first_token` → `finished`;
or `Refuse` (no endpoint took it in time), or `Fail` (its last attempt did not succeed; follows from `finished` only).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from heapq import heappop, heappush
from typing import NamedTuple

from reference.policy.ejection import EjectionSettings
from reference.policy.queue import Fairness, PoolQueue
from reference.policy.retry import RetryBudget
from reference.policy.roster import Roster
from reference.policy.routing.protocol import RoutingPolicy
from reference.policy.view import Chance, Decision, Endpoint, Observation, Rejected, RequestView, from_fields


class Outcome(Enum):
    """How an attempt ended."""

    OK = "ok"
    FAILED = "failed"
    """A server error, or the connection was lost or never made."""
    REFUSED = "refused"
    """The endpoint said 429 or 503."""
    CLIENT_ERROR = "client_error"
    """The endpoint said 4xx: the request is at fault, another endpoint would say the same."""
    CANCELLED = "cancelled"
    """The client left."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How a pool queues, retries and ejects. Seconds; `max_in_flight_per_endpoint` None dispatches all at once.

    `fairness` says whose turn it is among equals in priority (see `queue`); `tenant_weights` are for "tokens", 1 for
    who is not in them.
    """

    max_queued: int = 1000
    max_wait_seconds: float | None = None
    max_in_flight_per_endpoint: int | None = None
    fairness: Fairness = "in_flight"
    tenant_weights: Mapping[str, float] = field(default_factory=dict)
    max_attempts: int = 3
    retry_budget_ratio: float = 0.1
    retry_min_per_second: float = 1.0
    ejection: EjectionSettings = field(default_factory=EjectionSettings)


class Dispatch(NamedTuple):
    """Send the request to `decision.endpoint`. `attempt` counts from 1."""

    request: RequestView
    decision: Decision
    attempt: int

    @property
    def endpoint(self) -> str:
        """The endpoint's name."""
        return self.decision.endpoint


class Refuse(NamedTuple):
    """Answer the request with a refusal: no endpoint has it, and none has begun to answer it."""

    request: RequestView
    rejected: Rejected


class Fail(NamedTuple):
    """Answer the request with its failure: no attempt is left, or the first token was out."""

    request: RequestView
    reason: str
    attempts: int


Action = Dispatch | Refuse | Fail


class Flight:
    """An attempt under way."""

    __slots__ = ("attempt", "endpoint", "failed_on", "has_first_token", "request")

    def __init__(self, request: RequestView, endpoint: Endpoint, attempt: int, failed_on: tuple[str, ...]) -> None:
        self.request = request
        self.endpoint = endpoint
        self.attempt = attempt
        self.failed_on = failed_on
        self.has_first_token = False


@dataclass(slots=True)
class PoolCounters:
    """Submitted = completed + failed + refused + cancelled + client errors + in flight + queued, at any time."""

    submitted: int = 0
    completed: int = 0
    failed: int = 0
    refused: int = 0
    cancelled: int = 0
    client_errors: int = 0
    retries: int = 0
    ejections: int = 0


class Pool:
    """The endpoints of one model, the requests in flight to them, and those that wait. One thread at a time."""

    def __init__(self, settings: PoolSettings, routing: RoutingPolicy, chance: Chance) -> None:
        self.settings = settings
        self.counters = PoolCounters()
        self._routing = routing
        self._chance = chance
        self._roster = Roster(settings.ejection, settings.max_in_flight_per_endpoint)
        self._flights: dict[str, Flight] = {}
        self._queue = PoolQueue(settings.fairness, settings.tenant_weights)
        self._waiting = self._queue.waiting
        self._retrying: dict[str, tuple[int, tuple[str, ...]]] = {}
        self._in_flight_of: defaultdict[str, int] = defaultdict(int)
        self._budget = RetryBudget(settings.retry_budget_ratio, settings.retry_min_per_second)
        self._deadlines: list[tuple[float, str]] = []
        self._deadline_of: dict[str, float] = {}
        """The latest deadline of each request that waits or waited; an entry of the heap that differs is stale."""
        self._on_dispatched = getattr(routing, "dispatched", None)
        self._on_removed = getattr(routing, "removed", None)

    # Endpoints come and go

    def add_endpoint(self, name: str, now: float, weight: float = 1.0, version: str = "") -> list[Action]:
        """Take an endpoint in, or take its new weight; what waits may go to it."""
        self._roster.add(name, weight, version)
        return self._serve_queue(now)

    def remove_endpoint(self, name: str, now: float) -> list[Action]:
        """Let an endpoint go. What is in flight to it stays so until the caller tells its outcome."""
        if not self._roster.remove(name):
            return []
        if self._on_removed is not None:
            self._on_removed(name)
        return self._serve_queue(now) if self._roster else self._refuse_all_queued()

    def drain(self, name: str, now: float) -> list[Action]:
        """Send nothing more to an endpoint; what is in flight goes on."""
        self._roster.drain(name)
        return []

    def observe(self, name: str, observation: Observation, now: float) -> list[Action]:
        """Take what a scrape of an endpoint reported."""
        self._roster.observe(name, observation)
        return []

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All endpoints, by name; to be read only."""
        return self._roster.endpoints

    @property
    def num_queued(self) -> int:
        """Requests that wait for an endpoint."""
        return len(self._queue)

    @property
    def num_in_flight(self) -> int:
        """Requests dispatched and not finished."""
        return len(self._flights)

    # A request's life

    def submit(self, request: RequestView, now: float) -> list[Action]:
        """Take a request in: dispatch it, let it wait, or refuse it (or shed a less important one for it).

        Raises:
            ValueError: a request of this id is here already.
        """
        request_id, roster, waiting = request.request_id, self._roster, self._waiting
        if request_id in self._flights or request_id in waiting:
            raise ValueError(f"request {request_id!r} is here already; expected an id of its own")
        self.counters.submitted += 1
        self._budget.deposit()
        actions: list[Action] = []
        if roster.readmissions and roster.readmit(now) and waiting:
            # who has waited goes first to an endpoint that is back
            actions = self._serve_queue(now)
        if not roster.by_name:
            return [self._refused(request, "no endpoint serves this model", status=503)]
        if not waiting:
            candidates = roster.available if roster.is_open else roster.candidates(request.session)
            if candidates:
                actions.append(self._dispatch(request, candidates, 1, (), now))
                return actions
        return actions + self._enqueue(request, now)

    def first_token(self, request_id: str, now: float) -> None:
        """Note that the client has seen a first token: from here on there is no retry."""
        flight = self._flights.get(request_id)
        if flight is not None:
            flight.has_first_token = True

    def finished(self, request_id: str, outcome: Outcome, now: float) -> list[Action]:
        """End an attempt: retry it or not, and let what waits take its place. An unknown id is an attempt given up."""
        flight = self._flights.pop(request_id, None)
        if flight is None:
            return []
        self._land(flight)
        roster = self._roster
        if roster.readmissions:
            roster.readmit(now)
        actions: list[Action] = []
        if outcome is Outcome.OK:
            self.counters.completed += 1
            roster.succeeded(flight.endpoint)
        elif outcome is Outcome.CANCELLED:
            self.counters.cancelled += 1
        elif outcome is Outcome.CLIENT_ERROR:
            self.counters.client_errors += 1
        else:
            if outcome is Outcome.FAILED:
                self.counters.ejections += self._roster.failed(flight.endpoint, request_id, now)
            actions += self._retry(flight, outcome, now)
        if self._waiting:
            actions += self._serve_queue(now)
        return actions

    def cancel(self, request_id: str, now: float) -> list[Action]:
        """Forget a request whose client left, wherever it is."""
        if self._queue.remove(request_id) is not None:
            self._retrying.pop(request_id, None)
            self.counters.cancelled += 1
            return []
        return self.finished(request_id, Outcome.CANCELLED, now)

    # Time passes

    def expire(self, now: float) -> list[Action]:
        """Refuse what has waited too long, take back endpoints whose ejection is over, and serve what waits."""
        actions: list[Action] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, request_id = heappop(self._deadlines)
            if self._deadline_of.get(request_id) != deadline:
                continue
            del self._deadline_of[request_id]
            request = self._queue.remove(request_id)
            if request is not None:
                self._retrying.pop(request_id, None)
                actions.append(self._refused(request, "waited too long for an endpoint", status=503))
        self._roster.readmit(now)
        return actions + self._serve_queue(now)

    def next_deadline(self) -> float | None:
        """Return when `expire` next has something to do, None when nothing waits."""
        while self._deadlines and self._is_stale(*self._deadlines[0]):
            deadline, request_id = heappop(self._deadlines)
            if self._deadline_of.get(request_id) == deadline:
                del self._deadline_of[request_id]
        if not self._queue:
            return None
        first = self._deadlines[0][0] if self._deadlines else None
        back = self._roster.next_readmission()
        return first if back is None else back if first is None else min(first, back)

    def _is_stale(self, deadline: float, request_id: str) -> bool:
        return request_id not in self._queue or self._deadline_of.get(request_id) != deadline

    # Deciding

    def _dispatch(
        self, request: RequestView, candidates: list[Endpoint], attempt: int, failed_on: tuple[str, ...], now: float
    ) -> Dispatch:
        decision = self._routing.route(request, candidates, now, self._chance)
        endpoint = self._roster.by_name.get(decision.endpoint)
        if endpoint is None:
            names = [candidate.name for candidate in candidates]
            raise ValueError(f"the routing policy chose {decision.endpoint!r}; expected one of {names}")
        endpoint.in_flight += 1
        endpoint.in_flight_tokens += request.input_tokens
        self._in_flight_of[request.tenant] += 1
        self._flights[request.request_id] = Flight(request, endpoint, attempt, failed_on)
        if self._on_dispatched is not None:
            self._on_dispatched(request, endpoint.name, now)
        return from_fields(Dispatch, (request, decision, attempt))

    def _land(self, flight: Flight) -> None:
        flight.endpoint.in_flight -= 1
        flight.endpoint.in_flight_tokens -= flight.request.input_tokens
        tenant = flight.request.tenant
        self._in_flight_of[tenant] -= 1
        if not self._in_flight_of[tenant]:
            del self._in_flight_of[tenant]

    def _enqueue(self, request: RequestView, now: float) -> list[Action]:
        actions: list[Action] = []
        if len(self._queue) >= self.settings.max_queued:
            least = self._queue.victim(request)
            if least is None:
                return [self._refused(request, "the queue is full", retry_after=self._drain_estimate())]
            self._queue.remove(least.request_id)
            self._retrying.pop(least.request_id, None)
            whom = "a more important request" if least.priority < request.priority else "a tenant that holds less of it"
            actions.append(self._refused(least, f"shed for {whom}", retry_after=self._drain_estimate()))
        self._wait(request, now)
        return actions

    def _wait(self, request: RequestView, now: float, *, first: bool = False) -> None:
        self._queue.push(request, first=first)
        deadlines = [] if request.deadline is None else [request.deadline]
        if self.settings.max_wait_seconds is not None:
            deadlines.append(now + self.settings.max_wait_seconds)
        if deadlines:
            deadline = self._deadline_of[request.request_id] = min(deadlines)
            heappush(self._deadlines, (deadline, request.request_id))

    def _serve_queue(self, now: float) -> list[Action]:
        actions: list[Action] = []
        while self._queue and self._roster.has_room():
            request = self._queue.pop(self._in_flight_of)
            attempt, failed_on = self._retrying.pop(request.request_id, (1, ()))
            candidates = self._roster.candidates(request.session, failed_on)
            actions.append(self._dispatch(request, candidates, attempt, failed_on, now))
        return actions

    # After a failure

    def _retry(self, flight: Flight, outcome: Outcome, now: float) -> list[Action]:
        request, failed_on = flight.request, (*flight.failed_on, flight.endpoint.name)
        word = "refused" if outcome is Outcome.REFUSED else "failed"
        if flight.has_first_token:
            reason = "the endpoint failed after the first token"
        elif flight.attempt >= self.settings.max_attempts:
            reason = f"{flight.attempt} attempts {word}"
        elif not self._roster.available:
            reason = f"the endpoint {word} and there is no other"
        elif not self._budget.withdraw(now):
            reason = f"the endpoint {word} and the retry budget is used up"
        else:
            self.counters.retries += 1
            candidates = self._roster.candidates(request.session, failed_on)
            if candidates:
                return [self._dispatch(request, candidates, flight.attempt + 1, failed_on, now)]
            self._retrying[request.request_id] = (flight.attempt + 1, failed_on)
            self._wait(request, now, first=True)
            return []
        self.counters.failed += 1
        return [Fail(request, reason, flight.attempt)]

    # Bookkeeping

    def _refuse_all_queued(self) -> list[Action]:
        actions: list[Action] = []
        while self._queue:
            request = self._queue.pop(self._in_flight_of)
            self._retrying.pop(request.request_id, None)
            actions.append(self._refused(request, "no endpoint serves this model", status=503))
        return actions

    def _refused(
        self, request: RequestView, reason: str, *, retry_after: float | None = 1.0, status: int = 429
    ) -> Refuse:
        self.counters.refused += 1
        return Refuse(request, Rejected(reason, retry_after, status))

    def _drain_estimate(self) -> float:
        """Guess when there will be room: longer the longer the queue is against what is in flight; 1 to 60 seconds."""
        return min(60.0, max(1.0, round(len(self._queue) / max(1, len(self._flights)), 1)))
