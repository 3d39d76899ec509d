"""One replica in simulated time: the engine, when it wakes, whether it is there, and its wire to the router.

The engine says when something next becomes visible; the replica asks the clock to wake it then, and sends what it sees
to the router one hop later. Nothing is sent per token.

Life: starting (a cold start) → ready → down (crashed, or its node lost, up to the end of the next cold start) → ready …
→ gone (scaled away).
"""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import Final, Protocol

from reference.engine.engine import Engine
from reference.engine.sequence import Event, Rejected, Sequence
from reference.policy.view import Observation, from_fields
from sim.cluster.agenda import Call
from sim.cluster.clock import Clock, Turn


class Phase(Enum):
    """Where a replica is in its life."""

    STARTING = "starting"
    READY = "ready"
    DOWN = "down"
    GONE = "gone"


class Listener(Protocol):
    """Who hears of a replica's requests: the router. Times are those of the replica, before the hop."""

    def on_events(self, replica: Replica, events: list[Event]) -> Call | None:
        """Requests got their first token or their last one; give the call that brings the news on, if any."""


class Wire:
    """The connection between the router and a replica. While cut, nothing passes; what was sent arrives afterwards.

    That is TCP's way: established streams are resent, a new connection waits for its timeout.
    """

    __slots__ = ("hop", "whole_at")

    def __init__(self, hop: float) -> None:
        self.hop = hop
        self.whole_at = -inf

    def cut(self, until: float) -> None:
        """Cut it until then, or longer if it was cut for longer."""
        self.whole_at = max(self.whole_at, until)

    def arrival(self, sent: float) -> float:
        """When something sent at `sent` arrives at the other end."""
        whole_at = self.whole_at
        return (sent if sent >= whole_at else whole_at) + self.hop


class Replica:
    """A model server as a machine room knows it. Made when asked for; `started` makes it ready."""

    def __init__(
        self,
        *,
        name: str,
        index: int,
        pool: str,
        desk: str,
        node: str,
        engine: Engine,
        clock: Clock,
        wire: Wire,
        listener: Listener,
        request_seconds: float = 0.0,
    ) -> None:
        self.name = name
        self.index = index
        """Its place among simultaneous events."""
        self.component = f"replica/{name}"
        self.pool = pool
        self.desk = desk
        """Of which of the router's desks it is an endpoint: its model's, or that for decoding."""
        self.node = node
        self.engine = engine
        self.block_size = engine.settings.block_size
        self.wire = wire
        self.request_seconds = request_seconds
        """What its server takes over a request before the engine has it."""
        self.phase = Phase.STARTING
        self.is_ready = False
        """Whether it serves."""
        self.is_silent = False
        """Gone without a word: connections are not refused, they time out (its node is lost)."""
        self.error_shares: list[float] = []
        """Of the error bursts under way."""
        self.created_at = clock.now
        self.gone_at: float | None = None
        self.num_in_flight = 0
        """Dispatched to it and not answered, as the router counts."""
        self._turn = Turn.STEP + index
        self._agenda = clock.agenda
        self._tell = listener.on_events
        self._wake_time: float | None = None
        """The one wake that counts; others were asked for before something changed."""
        self._slowness: list[float] = []
        self._waking: Final = self._on_wake
        """Bound once, as it is asked for at every wake."""

    def __repr__(self) -> str:
        return f"<Replica {self.name} {self.phase.value} on {self.node}>"

    @property
    def error_share(self) -> float:
        """The share of requests it answers with an error."""
        spared = 1.0
        for share in self.error_shares:
            spared *= 1.0 - share
        return 1.0 - spared

    def submit(self, sequence: Sequence) -> Rejected | None:
        """Hand a sequence to the engine now; `wake` must follow."""
        return self.engine.submit(sequence, self._agenda.now)

    def wake(self) -> Call | None:
        """Give the call that wakes it when the engine next has something to show; None: such a call is there."""
        wake_at = self.engine.wake_at()
        if wake_at == self._wake_time:
            return None
        self._wake_time = wake_at
        return None if wake_at is None else self._agenda.following(wake_at, self._turn, self._waking)

    def abort(self, request_id: int) -> None:
        """Let a sequence go; its seat is free from the next step on."""
        now = self._agenda.now
        self.pass_time(now)
        if self.engine.abort(request_id, now):
            self._arm()

    def release(self, request_id: int) -> None:
        """Let go of the KV that a sequence left here to be fetched."""
        now = self._agenda.now
        self.pass_time(now)
        if self.engine.release(request_id, now):
            self._arm()

    def observe(self) -> Observation:
        """Read what a scrape reports now."""
        now = self._agenda.now
        running, waiting, kv_usage = self.engine.gauges(now)
        return from_fields(Observation, (now, running, waiting, kv_usage))

    def pass_time(self, now: float) -> None:
        """Bring the engine up to now and tell the router what became visible."""
        events = self.engine.advance(now)
        if events:
            news = self._tell(self, events)
            if news is not None:
                self._agenda.add(news)

    def slow(self, factor: float) -> None:
        """Make steps take longer by a factor, on top of other slowness."""
        self._slowness.append(factor)
        self._set_speed()

    def recover(self, factor: float) -> None:
        """Take one slowness away again."""
        self._slowness.remove(factor)
        self._set_speed()

    def stall(self, until: float) -> None:
        """Begin no step before `until`."""
        self.pass_time(self._agenda.now)
        self.engine.stall(until, self._agenda.now)
        self._arm()

    def crash(self, *, silently: bool = False) -> None:
        """Lose every sequence and the prefix cache, and serve nobody until started again."""
        self.pass_time(self._agenda.now)
        self.engine.crash(self._agenda.now)
        self.phase = Phase.DOWN
        self.is_ready = False
        self.is_silent = silently
        self._wake_time = None

    def started(self) -> None:
        """Become ready: the cold start is over."""
        self.phase = Phase.READY
        self.is_ready = True
        self.is_silent = False

    def remove(self) -> None:
        """Leave for good."""
        self.phase = Phase.GONE
        self.is_ready = False
        self.gone_at = self._agenda.now
        self._wake_time = None

    def _set_speed(self) -> None:
        factor = 1.0
        for slowness in self._slowness:
            factor *= slowness
        self.pass_time(self._agenda.now)
        self.engine.slow(factor, self._agenda.now)
        self._arm()

    def _arm(self) -> None:
        """Ask to be woken when the engine next has something to show."""
        call = self.wake()
        if call is not None:
            self._agenda.add(call)

    def _on_wake(self, _: None) -> Call | None:
        agenda = self._agenda
        now = agenda.now
        if now != self._wake_time:
            return None
        engine = self.engine
        events = engine.advance(now)
        self._wake_time = wake_at = engine.wake_at()
        if not events:
            return None if wake_at is None else agenda.following(wake_at, self._turn, self._waking)
        if wake_at is not None:
            agenda.call_at(wake_at, self._turn, self._waking)
        return self._tell(self, events)
