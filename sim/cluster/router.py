"""The router in simulated time: a shell around one policy pool per model, as the asyncio router is.

The pool decides; this carries its actions out and tells it what a real router would hear, when it would hear it:
answers and failures one hop after they happen, gauges of replicas as the last scrape read them, replicas that vanish
once a health check has missed them. A first token is told to the pool together with the failure that follows it,
because nothing between the two depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf, nan
from typing import TYPE_CHECKING, Final, NamedTuple

from reference.engine.sequence import FINISHED, FIRST_TOKEN, Event, Sequence
from reference.policy.pool import Action, Dispatch, Fail, Outcome, Pool, Refuse
from reference.policy.view import Observation, RequestView, from_fields
from reference.tokens import hash_segments
from sim.cluster.agenda import Call
from sim.cluster.clock import Clock, Turn
from sim.cluster.fleet import Fleet
from sim.cluster.recorder import FAILED, OK_STATUS, REFUSED, Recorder
from sim.cluster.replica import Replica
from sim.experiment.schema import Router as RouterSettings
from sim.experiment.workload import WorkloadRequest

if TYPE_CHECKING:
    from sim.cluster.handover import Handover

CONNECT_TIMEOUT_SECONDS: Final = 1.0
"""How long the router tries to reach a replica that does not answer at all."""

ATTEMPT_BITS: Final = 32
_SUBMIT: Final = int(Turn.SUBMIT)
_ANSWER: Final = int(Turn.ANSWER)
_LEAVE: Final = int(Turn.LEAVE)


class Transit:
    """One dispatch of a request: from the router's decision until its answer, failure or abandonment is known there."""

    __slots__ = ("desk", "first_token_at", "index", "is_in_engine", "key", "replica", "request", "view")

    def __init__(self, desk: Desk, view: RequestView, request: WorkloadRequest, attempt: int, replica: Replica) -> None:
        self.desk = desk
        self.view = view
        self.request = request
        self.index = request.index
        self.key = request.index | attempt << ATTEMPT_BITS
        """Its id in the engine: a retry is another sequence."""
        self.replica = replica
        self.first_token_at = inf
        """When the first token reached, or will reach, the router."""
        self.is_in_engine = False


class Desk:
    """What the router keeps of one model: its policy pool, and when the pool wants to be looked at again.

    A disaggregated model has two, for its prompts and for its answers; what is between them is a `Handover`.
    """

    __slots__ = ("admitted", "block_size", "expiry", "hands_to", "pool", "takes_from")

    def __init__(self, pool: Pool, block_size: int) -> None:
        self.pool = pool
        self.block_size = block_size
        self.admitted: set[str] = set()
        """Names of the replicas that are endpoints now."""
        self.expiry = inf
        self.hands_to: Handover | None = None
        """Who goes on with requests whose prompt is computed."""
        self.takes_from: Handover | None = None
        """Who brings the requests that are decoded here."""


class RouterSide(NamedTuple):
    """What a router does for every request, as calls for whoever does the rest of it."""

    act: Callable[[Desk, Iterable[Action], float], None]
    submit: Callable[[Transit], Call | None]
    failing: Callable[[float, Transit, str, int], Call]
    close: Callable[[WorkloadRequest, float, str, str, int, int | None], None]
    answer: Callable[[list[Event]], None]


class Router:
    """The router of one flight. `open` admits the replicas that are ready; then requests arrive."""

    def __init__(
        self,
        *,
        settings: RouterSettings,
        desks: dict[str, Desk],
        requests: list[WorkloadRequest],
        clock: Clock,
        fleet: Fleet,
        recorder: Recorder,
        hop: float,
        chance: Callable[[], float],
    ) -> None:
        self._health_interval = settings.health_interval
        self._desks = desks
        self._requests = requests
        self._agenda = clock.agenda
        self._fleet = fleet
        self._recorder = recorder
        self._hop = hop
        self._way_back = 2 * hop
        self._chance = chance
        self._transits: dict[int, Transit] = {}
        """The dispatches under way, by their id in the engine."""
        self._draining: set[Replica] = set()
        self._submitting: Final = self._on_submit
        self._answering: Final = self._on_answers
        self.when_left: Callable[[WorkloadRequest, int | None], None] | None = None
        """Told of every request that leaves the router: with the tokens it used, or None if it reached no replica."""
        for desk in desks.values():
            if desk.hands_to is not None:
                desk.hands_to.connect(
                    self._transits,
                    RouterSide(
                        act=self._act,
                        submit=self._on_submit,
                        failing=self._failing,
                        close=self._close,
                        answer=self._on_answers,
                    ),
                )
        clock.every(settings.scrape_interval, Turn.SCRAPE, self._scrape, first=hop)
        clock.every(settings.health_interval, Turn.HEALTH, self._check_health)

    def open(self) -> None:
        """Admit every replica that is ready, as a router does that starts after them."""
        self._check_health(self._agenda.now)

    @property
    def num_queued(self) -> int:
        """Requests that wait for an endpoint."""
        return sum(desk.pool.num_queued for desk in self._desks.values())

    @property
    def queued_by_model(self) -> dict[str, int]:
        """Requests that wait for an endpoint, by model."""
        return {model: desk.pool.num_queued for model, desk in self._desks.items()}

    @property
    def num_in_flight(self) -> int:
        """Requests dispatched and not answered, as far as the router knows."""
        return len(self._transits)

    # What clients and the gateway bring

    def on_arrival(self, request: WorkloadRequest) -> Call | None:
        """Take a request in, now; give the call that brings it to its replica, if it goes there at once."""
        if self._recorder.status[request.index]:
            return None
        now = self._agenda.now
        desk = self._desks.get(request.model)
        if desk is None:
            self._close(request, now, REFUSED, "no such model", 404, None)
            return None
        deadline = request.deadline_seconds
        fields = (
            str(request.index),
            request.model,
            now,
            request.input_tokens,
            None,
            hash_segments(request.prompt, desk.block_size) if request.prompt else (),
            request.tenant,
            request.traffic_class,
            request.priority,
            request.session or None,
            None if deadline is None else request.scheduled + deadline,
        )
        view = from_fields(RequestView, fields)
        actions = desk.pool.submit(view, now)
        if len(actions) == 1 and type(actions[0]) is Dispatch:
            return self._dispatch(desk, actions[0], request, now)
        self._act(desk, actions, now)
        return None

    def on_leave(self, request: WorkloadRequest) -> None:
        """Hear that a client has gone, and let go of whatever is under way for it."""
        now = self._agenda.now
        desk = self._desks.get(request.model)
        if desk is None:
            return
        index = request.index
        transit = self._transits.get(index | self._recorder.attempts[index] << ATTEMPT_BITS)
        if transit is None and desk.hands_to is not None:
            transit = desk.hands_to.on_leave(request, now)
        if transit is not None:
            self._forget(transit)
            self._agenda.call_at(transit.replica.wire.arrival(now), _LEAVE + index, self._on_abort, transit)
        self._act(desk, desk.pool.cancel(str(request.index), now), now)
        self._let_drained_go()

    # What replicas bring

    def on_events(self, replica: Replica, events: list[Event]) -> Call | None:
        """Note when first tokens get through, and send last ones on their way; all of them are of this instant."""
        arrival = replica.wire.arrival(self._agenda.now)
        transits, recorder = self._transits, self._recorder
        num_finished = 0
        for kind, key, _, _, cached_tokens in events:
            if kind is not FIRST_TOKEN:
                num_finished += 1
            elif key in transits:
                transit = transits[key]
                transit.first_token_at = arrival
                index = transit.index
                if not recorder.status[index]:
                    recorder.first_token[index] = arrival + self._way_back
                    recorder.cached_tokens[index] = cached_tokens
        if not num_finished:
            return None
        return self._agenda.following(arrival, _ANSWER + replica.index, self._answering, events)

    def on_lost(self, replica: Replica, silently: bool) -> None:
        """Let the router learn that what was in a replica's engine is lost: by a reset, or by silence."""
        lost = [transit for transit in self._transits.values() if transit.replica is replica and transit.is_in_engine]
        now = self._agenda.now
        hands_to = self._desk_of(replica).hands_to
        if hands_to is not None:
            hands_to.on_lost(replica, silently)
        for transit in lost:
            transit.is_in_engine = False
            if not self._recorder.status[transit.index]:
                self._recorder.output_tokens[transit.index] = replica.engine.num_generated(transit.key)
        if not silently:
            turn = Turn.ANSWER + replica.index
            self._agenda.call_at(replica.wire.arrival(now), turn, self._on_failures, (lost, "connection lost", 502))
        else:
            next_check = (now // self._health_interval + 1) * self._health_interval
            turn = Turn.HEALTH + 1 + replica.index
            self._agenda.call_at(next_check, turn, self._on_failures, (lost, "connection lost", 504))

    def on_leaving(self, replica: Replica) -> None:
        """Dispatch nothing more to a replica, and let it go when nothing is in flight to it."""
        self._draining.add(replica)
        desk, now = self._desk_of(replica), self._agenda.now
        self._act(desk, desk.pool.drain(replica.name, now), now)
        self._let_drained_go()

    # Carrying out what a pool decides

    def _act(self, desk: Desk, actions: Iterable[Action], now: float) -> None:
        for action in actions:
            if desk.takes_from is not None:
                desk.takes_from.act(action, now)
            elif type(action) is Dispatch:
                request = self._requests[int(action.request.request_id)]
                self._agenda.add(self._dispatch(desk, action, request, now))
            elif type(action) is Refuse:
                self._refuse(action, now)
        self._expect_expiry(desk, now)

    def _expect_expiry(self, desk: Desk, now: float) -> None:
        """Ask to be called when the pool next has something to do by itself."""
        deadline = desk.pool.next_deadline()
        if deadline is not None and deadline < desk.expiry:
            desk.expiry = deadline
            self._agenda.call_at(max(deadline, now), Turn.EXPIRE, self._on_expiry, desk)

    def _dispatch(self, desk: Desk, action: Dispatch, request: WorkloadRequest, now: float) -> Call:
        """Send a request off; give the call of its arrival."""
        view, (name, reason, scores), attempt = action
        index = request.index
        replica = self._fleet.by_name[name]
        transit = Transit(desk, view, request, attempt, replica)
        self._transits[transit.key] = transit
        replica.num_in_flight += 1
        recorder = self._recorder
        recorder.attempts[index] = attempt
        recorder.endpoint[index] = name
        recorder.decided.extend((now, index, attempt, name, reason, scores))
        arrival = replica.wire.arrival(now)
        if arrival - now > CONNECT_TIMEOUT_SECONDS:
            return self._failing(now + CONNECT_TIMEOUT_SECONDS, transit, "connect timeout", 504)
        return self._agenda.following(arrival + replica.request_seconds, _SUBMIT + index, self._submitting, transit)

    def _refuse(self, action: Refuse, now: float) -> None:
        rejected = action.rejected
        request = self._requests[int(action.request.request_id)]
        attempt = self._recorder.attempts[request.index]
        self._recorder.decided.extend((now, request.index, attempt, "", rejected.reason, ()))
        wait = rejected.retry_after_seconds
        self._close(request, now, REFUSED, rejected.reason, rejected.status, None, wait)

    def _on_submit(self, transit: Transit) -> Call | None:
        """A request reaches a replica, or what is left of it."""
        if transit.key not in self._transits:
            return None
        replica = transit.replica
        now = self._agenda.now
        if not replica.is_ready:
            if replica.is_silent:
                return self._failing(now + CONNECT_TIMEOUT_SECONDS, transit, "connect timeout", 504)
            return self._failing(replica.wire.arrival(now), transit, "connection refused", 502)
        if replica.error_shares and self._chance() < replica.error_share:
            return self._failing(replica.wire.arrival(now), transit, "server error", 500)
        request = transit.request
        hashes = transit.view.block_hashes
        if hashes and replica.block_size != transit.desk.block_size:
            hashes = hash_segments(request.prompt, replica.block_size)
        transit.is_in_engine = True
        handover = transit.desk.hands_to or transit.desk.takes_from
        if handover is not None:
            rejected = handover.submit(transit, hashes)
        else:
            rejected = replica.submit(Sequence(transit.key, request.input_tokens, request.output_tokens, hashes))
        if rejected is not None:
            transit.is_in_engine = False
            self._agenda.add(self._failing(replica.wire.arrival(now), transit, rejected.reason, rejected.status))
        return replica.wake()

    def _on_answers(self, events: list[Event]) -> None:
        """Last tokens reach the router."""
        now = self._agenda.now
        recorder = self._recorder
        transits = self._transits
        for kind, key, _, output_tokens, _ in events:
            if kind is not FINISHED or key not in transits:
                continue
            transit = transits.pop(key)
            transit.replica.num_in_flight -= 1
            index, desk = transit.index, transit.desk
            if not recorder.status[index]:
                recorder.complete(index, now + self._way_back, output_tokens)
                if self.when_left is not None:
                    self.when_left(transit.request, transit.request.input_tokens + output_tokens)
            actions = desk.pool.finished(transit.view.request_id, Outcome.OK, now)
            if actions:
                self._act(desk, actions, now)
        if self._draining:
            self._let_drained_go()

    def _failing(self, when: float, transit: Transit, reason: str, status: int) -> Call:
        turn = Turn.ANSWER + transit.replica.index
        return self._agenda.following(when, turn, self._on_failures, ([transit], reason, status))

    def _on_failures(self, about: tuple[list[Transit], str, int]) -> None:
        """Attempts have failed, as the router now knows."""
        transits, reason, status = about
        now = self._agenda.now
        for transit in transits:
            if self._forget(transit):
                self._fail(transit, reason, status, now)
        self._let_drained_go()

    def _fail(self, transit: Transit, reason: str, status: int, now: float) -> None:
        request, recorder, desk = transit.request, self._recorder, transit.desk
        index, request_id = transit.index, transit.view.request_id
        is_open = not recorder.status[index]
        outcome = Outcome.CLIENT_ERROR if 400 <= status < 500 else Outcome.FAILED
        if transit.first_token_at <= now:
            desk.pool.first_token(request_id, transit.first_token_at)
            if is_open:
                recorder.last_token[index] = now + self._way_back
                recorder.output_tokens[index] = max(1, recorder.output_tokens[index])
                status = OK_STATUS
        elif is_open:
            recorder.first_token[index] = nan
            recorder.output_tokens[index] = 0
        actions = desk.pool.finished(request_id, outcome, now)
        if outcome is Outcome.CLIENT_ERROR:
            self._close(request, now, REFUSED, reason, status, None)
        elif any(type(action) is Fail for action in actions):
            self._close(request, now, FAILED, reason, status, recorder.output_tokens[index] + request.input_tokens)
        self._act(desk, actions, now)

    def _close(
        self,
        request: WorkloadRequest,
        now: float,
        status: str,
        reason: str,
        http_status: int,
        used_tokens: int | None,
        retry_after: float | None = None,
    ) -> None:
        """Let the client have its end, and the gateway the account."""
        at = now + self._way_back
        if self._recorder.end(request.index, at, status, reason, http_status, retry_after) and self.when_left:
            self.when_left(request, used_tokens)

    def _on_abort(self, transit: Transit) -> None:
        """News that a client has gone reaches the replica."""
        if transit.is_in_engine:
            transit.replica.abort(transit.key)

    def _on_expiry(self, desk: Desk) -> None:
        now = self._agenda.now
        desk.expiry = inf
        self._act(desk, desk.pool.expire(now), now)

    def _forget(self, transit: Transit) -> bool:
        """Take a dispatch off the books; False when it was off them."""
        if self._transits.pop(transit.key, None) is None:
            return False
        transit.replica.num_in_flight -= 1
        handover = transit.desk.hands_to or transit.desk.takes_from
        if handover is not None:
            handover.on_forgotten(transit)
        return True

    # What the router finds out by asking

    def _scrape(self, now: float) -> None:
        """Read the gauges of every endpoint that can be reached; the router has them a hop later."""
        read: list[tuple[Desk, str, Observation]] = []
        desks = self._desks
        for name, replica in self._fleet.by_name.items():
            desk = desks[replica.desk]
            if name in desk.admitted and replica.is_ready and now >= replica.wire.whole_at:
                read.append((desk, name, replica.observe()))
        if read:
            self._agenda.call_at(now + self._hop, Turn.OBSERVE, self._on_observed, read)

    def _on_observed(self, read: list[tuple[Desk, str, Observation]]) -> None:
        now = self._agenda.now
        for desk, name, observation in read:
            actions = desk.pool.observe(name, observation, now)
            if actions:
                self._act(desk, actions, now)

    def _check_health(self, now: float) -> None:
        """Admit who answers and is not an endpoint yet, remove who is one and does not answer."""
        desks = self._desks
        for name, replica in self._fleet.by_name.items():
            desk = desks[replica.desk]
            if replica.is_ready and now >= replica.wire.whole_at:
                if name not in desk.admitted and replica not in self._draining:
                    desk.admitted.add(name)
                    self._act(desk, desk.pool.add_endpoint(name, now), now)
            elif name in desk.admitted:
                desk.admitted.discard(name)
                self._act(desk, desk.pool.remove_endpoint(name, now), now)

    def _let_drained_go(self) -> None:
        now = self._agenda.now
        for replica in sorted(self._draining, key=lambda replica: replica.index):
            if not replica.num_in_flight:
                self._draining.discard(replica)
                desk = self._desk_of(replica)
                desk.admitted.discard(replica.name)
                self._act(desk, desk.pool.remove_endpoint(replica.name, now), now)
                self._fleet.drained(replica)

    def _desk_of(self, replica: Replica) -> Desk:
        return self._desks[replica.desk]
