"""All replicas of a flight: their making, cold starts, crashes, and leaving; which pool and node each belongs to.

Replicas of a pool are `<pool>-<ordinal>`; a new one takes the smallest ordinal that nobody has. Decides nothing: faults
and the autoscaler ask, and the router hears of replicas that come and go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from reference.engine.engine import Engine
from sim.cluster.clock import Clock, Turn
from sim.cluster.cold_start import ColdStart, cold_start_of
from sim.cluster.nodes import Nodes
from sim.cluster.recorder import Recorder
from sim.cluster.replica import Listener, Replica, Wire
from sim.experiment.schema import Pool


class Watcher(Listener, Protocol):
    """Who must know which replicas there are: the router."""

    def on_lost(self, replica: Replica, silently: bool) -> None:
        """A replica is about to lose all it has; its connections are reset, or go silent."""

    def on_leaving(self, replica: Replica) -> None:
        """A replica is to be drained; call `Fleet.drained` when nothing of it is in flight."""


@dataclass(slots=True)
class Squad:
    """The replicas of one pool, in order of ordinal, those starting, down and draining included."""

    name: str
    pool: Pool
    make_engine: Callable[[], Engine]
    request_seconds: float
    cold_start: ColdStart
    first_index: int
    """Where the indices of its replicas begin, for the order of simultaneous events."""
    replicas: dict[int, Replica]
    draining: set[int]
    desk: str
    """Of which of the router's desks they are endpoints."""
    listener: Listener | None = None
    """Who hears of their requests instead of the router."""

    @property
    def component(self) -> str:
        """Its name in samples."""
        return f"pool/{self.name}"

    @property
    def num_ready(self) -> int:
        """Replicas that serve and are not draining."""
        return sum(1 for ordinal, replica in self.replicas.items() if replica.is_ready and ordinal not in self.draining)

    @property
    def staying(self) -> list[Replica]:
        """Replicas that are not draining, whatever their phase."""
        return [replica for ordinal, replica in self.replicas.items() if ordinal not in self.draining]


class Fleet:
    """The machine room. `watcher` must be set before the first replica is added."""

    watcher: Watcher

    def __init__(self, clock: Clock, recorder: Recorder, hop: float) -> None:
        self.squads: list[Squad] = []
        self.nodes = Nodes()
        self.all_replicas: list[Replica] = []
        """Everyone who ever was, in order of making."""
        self.by_name: dict[str, Replica] = {}
        """Those that are here now."""
        self._squad_of: dict[str, tuple[Squad, int]] = {}
        self._ready_at: dict[Replica, float] = {}
        """When the cold start of a replica is over, the last one asked for."""
        self._has_image: set[str] = set()
        """Nodes."""
        self._clock = clock
        self._recorder = recorder
        self._hop = hop

    def add_squad(
        self,
        name: str,
        pool: Pool,
        make_engine: Callable[[], Engine],
        request_seconds: float = 0.0,
        desk: str | None = None,
        listener: Listener | None = None,
    ) -> Squad:
        """Bring in a pool's replicas, ready from the start, as endpoints of its model's desk or another."""
        squad = Squad(
            name,
            pool,
            make_engine,
            request_seconds,
            cold_start_of(pool),
            len(self.squads) << 20,
            {},
            set(),
            pool.model if desk is None else desk,
            listener,
        )
        self.squads.append(squad)
        for _ in range(pool.replicas):
            replica = self._make(squad)
            replica.started()
            self._has_image.add(replica.node)
        return squad

    def squad_of(self, replica: Replica) -> Squad:
        """Which pool a replica belongs to."""
        return self._squad_of[replica.name][0]

    def add(self, squad: Squad) -> Replica:
        """Ask for one more replica; it is ready after its pool's cold start."""
        replica = self._make(squad)
        self._start_at(replica, self._clock.now, is_new=True)
        return replica

    def drain(self, squad: Squad, count: int) -> list[Replica]:
        """Let `count` replicas go, those not ready first, then the youngest; each leaves once nothing is in flight."""
        staying = [(replica.is_ready, -ordinal, replica) for ordinal, replica in squad.replicas.items()]
        staying = [entry for entry in staying if -entry[1] not in squad.draining]
        leaving = [replica for _, _, replica in sorted(staying, key=lambda entry: entry[:2])[:count]]
        for replica in leaving:
            squad.draining.add(self._squad_of[replica.name][1])
            self.watcher.on_leaving(replica)
        return leaving

    def drained(self, replica: Replica) -> None:
        """Take away a replica that is done."""
        squad, ordinal = self._squad_of.pop(replica.name)
        del squad.replicas[ordinal]
        del self.by_name[replica.name]
        squad.draining.discard(ordinal)
        self._ready_at.pop(replica, None)
        self.nodes.leave(replica.name)
        replica.remove()
        self._recorder.event(self._clock.now, "replica_removed", replica.name, "drained and removed")

    def crash(self, replica: Replica, lasts: float, *, silently: bool = False) -> None:
        """Let a replica lose everything and be away for `lasts`, then start cold."""
        was_ready = replica.is_ready
        if was_ready:
            replica.pass_time(self._clock.now)
            self.watcher.on_lost(replica, silently)
        replica.crash(silently=silently)
        self._start_at(replica, self._clock.now + lasts)

    def _make(self, squad: Squad) -> Replica:
        ordinal = 0
        while ordinal in squad.replicas:
            ordinal += 1
        name = f"{squad.name}-{ordinal}"
        replica = Replica(
            name=name,
            index=squad.first_index + ordinal,
            pool=squad.name,
            desk=squad.desk,
            node=self.nodes.seat(name, squad.name, squad.pool.replicas_per_node),
            engine=squad.make_engine(),
            clock=self._clock,
            wire=Wire(self._hop),
            listener=squad.listener or self.watcher,
            request_seconds=squad.request_seconds,
        )
        squad.replicas[ordinal] = replica
        squad.replicas = dict(sorted(squad.replicas.items()))
        self.all_replicas.append(replica)
        self.by_name[name] = replica
        self._squad_of[name] = (squad, ordinal)
        return replica

    def _start_at(self, replica: Replica, when: float, *, is_new: bool = False) -> None:
        """Begin a cold start then; a later crash puts it off, an earlier one does not bring it forward."""
        squad, ordinal = self._squad_of[replica.name]
        has_image = replica.node in self._has_image
        ready_at = when + squad.cold_start.seconds(has_image=has_image, is_new=is_new)
        ready_at = max(ready_at, self._ready_at.get(replica, 0.0))
        self._ready_at[replica] = ready_at
        parts = squad.cold_start.about(has_image=has_image, is_new=is_new)
        about = f"{'asked for' if is_new else 'started again'} at {when:.1f} s; {parts}"
        turn = Turn.READY + squad.first_index + ordinal
        self._clock.call_at(ready_at, turn, self._on_started, (replica, ready_at, about))

    def _on_started(self, started: tuple[Replica, float, str]) -> None:
        replica, ready_at, about = started
        if self._ready_at.get(replica) != ready_at or replica.is_ready:
            return
        self._has_image.add(replica.node)
        self._recorder.event(self._clock.now, "replica_ready", replica.name, f"cold start over: {about}")
        replica.started()
