"""The autoscaler of a pool in simulated time: reads the metric, asks the policy, and has the fleet add or drain.

It reads each ready replica itself at its own interval, and decides by what it has read once that has come through
(`metrics_delay`); `in_flight` is what the router has dispatched to it. Between a load that grows and a replica that
serves it lie up to an interval, the delay, the cold start, up to a health check of the router; the events say which.
"""

from __future__ import annotations

from reference.policy.autoscaling import AutoscalerSettings, HorizontalAutoscaler
from sim.cluster.clock import Clock, Turn
from sim.cluster.fleet import Fleet, Squad
from sim.cluster.recorder import Recorder
from sim.cluster.replica import Replica
from sim.experiment.schema import Autoscale


class Autoscaler:
    """Watches one pool from its first interval on."""

    def __init__(
        self,
        *,
        settings: Autoscale,
        squad: Squad,
        fleet: Fleet,
        clock: Clock,
        recorder: Recorder,
    ) -> None:
        self._metric = settings.metric
        self._squad = squad
        self._fleet = fleet
        self._recorder = recorder
        self._clock = clock
        self._delay = settings.metrics_delay
        self._looks = f"looks each {settings.interval:g} s"
        self._turn = Turn.SCALE + squad.first_index
        self._policy = HorizontalAutoscaler(
            AutoscalerSettings(
                min_replicas=settings.min_replicas,
                max_replicas=settings.max_replicas,
                target=settings.target,
                tolerance=settings.tolerance,
                stabilisation_seconds=settings.stabilisation,
            )
        )
        clock.every(settings.interval, self._turn, self._look)

    def _look(self, now: float) -> None:
        """Read every replica that answers."""
        staying = self._squad.staying
        readings = [self._read(replica) for replica in staying if replica.is_ready and now >= replica.wire.whole_at]
        if self._delay:
            self._clock.call_at(now + self._delay, self._turn, self._decide, readings)
        else:
            self._decide(readings)

    def _decide(self, readings: list[float]) -> None:
        now, staying = self._clock.now, self._squad.staying
        decision = self._policy.decide(replicas=len(staying), readings=readings, now=now)
        change = decision.replicas - len(staying)
        if not change:
            return
        kind = "scale_up" if change > 0 else "scale_down"
        about = f"{len(staying)} to {decision.replicas}: {decision.reason}; {self._looks}"
        if self._delay:
            about += f", read {self._delay:g} s ago"
        self._recorder.event(now, kind, self._squad.name, about)
        if change < 0:
            self._fleet.drain(self._squad, -change)
        for _ in range(change):
            self._fleet.add(self._squad)

    def _read(self, replica: Replica) -> float:
        if self._metric == "in_flight":
            return float(replica.num_in_flight)
        seen = replica.observe()
        match self._metric:
            case "queue_depth":
                return float(seen.queue_depth)
            case "kv_usage":
                return seen.kv_usage
            case _:
                return float(seen.running)
