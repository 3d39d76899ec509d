"""The links over which prefill replicas give KV away: each sends one after the other, first asked first served.

Sending takes bytes over bandwidth and holds the link; the latency comes after it and does not. Knows nothing of routers
and engines: whoever asks is told when KV has come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sim.cluster.agenda import Call
from sim.cluster.clock import Clock, Turn
from sim.cluster.replica import Replica
from sim.cluster.router import Transit


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfers:
    """How KV moves between the replicas of one pool. Bytes and seconds."""

    bytes_per_token: int
    bytes_per_second: float
    """Of each sender."""
    latency: float
    num_senders: int


class Handoff:
    """The KV of one prompt: computed, perhaps asked for by a receiver, sent, over; or lost with its replica."""

    __slots__ = ("cached_tokens", "first_token_tick", "is_lost", "is_over", "prefill", "receiver")

    def __init__(self, prefill: Transit, first_token_tick: int, cached_tokens: int) -> None:
        self.prefill = prefill
        """The dispatch to the replica that computed it."""
        self.first_token_tick = first_token_tick
        self.cached_tokens = cached_tokens
        self.receiver: Transit | None = None
        """The dispatch to the decode replica."""
        self.is_lost = False
        self.is_over = False
        """Fetched, or let go of: the prefill replica has its blocks back."""


class Link:
    """What leaves one replica: the transfer under way, and those asked for behind it. Ends with the replica's life."""

    __slots__ = ("asked", "moving")

    def __init__(self) -> None:
        self.moving: Handoff | None = None
        self.asked: deque[Handoff] = deque()


class KvLinks:
    """The links of all prefill replicas of one pool. `when_fetched` hears of KV that has come, as it comes."""

    def __init__(self, transfers: Transfers, clock: Clock, when_fetched: Callable[[Handoff], Call | None]) -> None:
        self._transfers = transfers
        self._clock = clock
        self._when_fetched = when_fetched
        self._links: dict[Replica, Link] = {}
        self.num_sent = 0
        self.bytes_sent = 0
        self.busy_seconds = 0.0
        """Of all links together."""

    def ask(self, handoff: Handoff) -> None:
        """Have KV sent, after what was asked for before."""
        replica = handoff.prefill.replica
        link = self._links.setdefault(replica, Link())
        link.asked.append(handoff)
        if link.moving is None:
            self._send_next(replica, link)

    def is_moving(self, handoff: Handoff) -> bool:
        """Whether its bytes are leaving now."""
        link = self._links.get(handoff.prefill.replica)
        return link is not None and link.moving is handoff

    def break_off(self, replica: Replica) -> list[Handoff]:
        """Lose the link of a replica that is lost; give what was still to come over it."""
        link = self._links.pop(replica, None)
        if link is None:
            return []
        coming = [*link.asked] if link.moving is None else [link.moving, *link.asked]
        return [handoff for handoff in coming if not handoff.is_over]

    def _send_next(self, replica: Replica, link: Link) -> None:
        link.moving = None
        while link.asked and link.moving is None:
            handoff = link.asked.popleft()
            if handoff.is_over:
                continue
            link.moving = handoff
            sent_at = self._clock.now + self._bytes_of(handoff) / self._transfers.bytes_per_second
            self._clock.call_at(sent_at, Turn.STEP + replica.index, self._on_sent, (replica, link, handoff))

    def _on_sent(self, about: tuple[Replica, Link, Handoff]) -> None:
        replica, link, handoff = about
        if self._links.get(replica) is not link:
            return
        size = self._bytes_of(handoff)
        self.num_sent += 1
        self.bytes_sent += size
        self.busy_seconds += size / self._transfers.bytes_per_second
        turn = Turn.STEP + replica.index
        self._clock.call_at(self._clock.now + self._transfers.latency, turn, self._when_fetched, handoff)
        self._send_next(replica, link)

    def _bytes_of(self, handoff: Handoff) -> int:
        return handoff.prefill.request.input_tokens * self._transfers.bytes_per_token
