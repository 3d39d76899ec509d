"""What goes wrong, when, and to whom: the faults of a scenario, begun and ended on the clock.

A target is a replica (`vllm-2`), a node (`node-0`) or a pool (all of its replicas there at that moment). What a fault
does to a replica is here; what it looks like from outside follows from the replica, its wire and the router.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

from sim.cluster.clock import Clock, Turn
from sim.cluster.fleet import Fleet
from sim.cluster.recorder import Recorder
from sim.cluster.replica import Replica
from sim.experiment.errors import InputError
from sim.experiment.schema import Fault

DEFAULT_SLOWNESS = 2.0
"""Of a slow replica whose fault gives no factor."""

DEFAULT_ERROR_SHARE = 1.0
"""Of an error burst that gives no share."""

Undo = Callable[[], None]


class Faults:
    """The faults of one flight.

    Raises:
        InputError: a target is no replica, node or pool of this cluster.
    """

    def __init__(self, faults: tuple[Fault, ...], fleet: Fleet, clock: Clock, recorder: Recorder) -> None:
        self._fleet = fleet
        self._clock = clock
        self._recorder = recorder
        for index, fault in enumerate(faults):
            self._check(index, fault)
            clock.call_at(fault.at, Turn.FAULT + index, self._begin, (index, fault))

    def _begin(self, about: tuple[int, Fault]) -> None:
        index, fault = about
        now = self._clock.now
        targets = self._targets(fault.target)
        undos = [undo for replica in targets if (undo := self._hit(fault, replica)) is not None]
        hit = ", ".join(replica.name for replica in targets) if targets else "nobody of that name was there"
        self._recorder.event(now, fault.kind, fault.target, hit, fault.lasts)
        if undos:
            self._clock.call_at(now + fault.lasts, Turn.FAULT + index, self._end, undos)

    def _end(self, undos: list[Undo]) -> None:
        for undo in undos:
            undo()

    def _hit(self, fault: Fault, replica: Replica) -> Undo | None:
        """Do it; what is given back is called when it is over."""
        match fault.kind:
            case "replica_crash":
                self._fleet.crash(replica, fault.lasts)
            case "node_loss":
                self._fleet.crash(replica, fault.lasts, silently=True)
            case "slow_replica":
                factor = fault.factor or DEFAULT_SLOWNESS
                replica.slow(factor)
                return lambda: replica.recover(factor)
            case "stall":
                replica.stall(self._clock.now + fault.lasts)
            case "partition":
                replica.wire.cut(self._clock.now + fault.lasts)
            case "error_burst":
                share = fault.share or DEFAULT_ERROR_SHARE
                replica.error_shares.append(share)
                return lambda: replica.error_shares.remove(share)
        return None

    def _targets(self, target: str) -> list[Replica]:
        fleet = self._fleet
        if target in fleet.by_name:
            return [fleet.by_name[target]]
        for squad in fleet.squads:
            if squad.name == target:
                return list(squad.replicas.values())
        return [fleet.by_name[name] for name in fleet.nodes.replicas_on(target)]

    def _check(self, index: int, fault: Fault) -> None:
        fleet = self._fleet
        known = [squad.name for squad in fleet.squads]
        for squad in fleet.squads:
            most = squad.pool.autoscale.max_replicas if squad.pool.autoscale else squad.pool.replicas
            known += [f"{squad.name}-{ordinal}" for ordinal in range(max(most, squad.pool.replicas))]
        known += fleet.nodes.names
        if fault.target in known:
            return
        nearest = get_close_matches(fault.target, known, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else f"; there are {', '.join(known)}"
        raise InputError(f"faults[{index}].target: {fault.target!r} is no replica, node or pool of this cluster{hint}")
