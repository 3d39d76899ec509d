"""The faults of a scenario, done to real servers: a crash is a SIGKILL, a slow replica is told to be slow."""

from __future__ import annotations

import sched
import threading
import time
from collections.abc import Callable
from typing import Any, Generic

from e2e.rungs.parts import Deployed, Hands, S
from sim.cluster.cold_start import cold_start_of
from sim.cluster.faults import DEFAULT_ERROR_SHARE, DEFAULT_SLOWNESS
from sim.experiment.schema import Fault, Scenario

LOOK_SECONDS = 0.1


class Mischief(Generic[S]):
    """A thread that does each fault at its time and undoes it when it is over. `stop` tells what went wrong in it."""

    def __init__(self, scenario: Scenario, crew: Hands[S], stack: Deployed[S], starting_seconds: float) -> None:
        self.events: list[dict[str, Any]] = []
        self._scenario = scenario
        self._crew = crew
        self._stack = stack
        self._starting_seconds = starting_seconds
        """How long a worker takes to serve here: part of every cold start."""
        self._zero = 0.0
        self._active: dict[tuple[str, str], list[float]] = {}
        """Strengths of the faults under way, by worker and kind."""
        self._problem: BaseException | None = None
        self._stop = threading.Event()
        self._agenda = sched.scheduler(time.monotonic, self._sleep)
        self._thread = threading.Thread(target=self._run, name="faults", daemon=True)

    def start(self, zero: float) -> None:
        """Put every fault on the agenda, from `zero` on the monotonic clock."""
        self._zero = zero
        for fault in self._scenario.faults:
            self._agenda.enterabs(zero + fault.at, 1, self._begin, (fault,))
        self._thread.start()

    def stop(self) -> None:
        """Forget what is still to come.

        Raises:
            OSError: a fault could not be done.
        """
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)
        if self._problem is not None:
            raise self._problem

    def _run(self) -> None:
        try:
            self._agenda.run()
        except OSError as error:
            self._problem = error

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            for entry in self._agenda.queue:
                self._agenda.cancel(entry)

    def _begin(self, fault: Fault) -> None:
        if self._stop.is_set():
            return
        names = self._targets(fault.target)
        self._note(fault.kind, fault.target, ", ".join(names), fault.lasts)
        for name in names:
            self._do(fault, self._stack.workers[name])

    def _do(self, fault: Fault, worker: S) -> None:
        match fault.kind:
            case "replica_crash":
                self._crew.kill(worker)
                self._later(fault.lasts + self._cold_start(worker), self._restart, worker)
            case "node_loss":
                # silence, as of a machine that is gone; its process goes unseen, when the machine is back
                self._strengthen(worker, fault, 1.0)
                self._later(fault.lasts + self._cold_start(worker), self._replace, worker)
            case "stall":
                worker.post("/control/stall", {"seconds": fault.lasts})
            case "slow_replica":
                self._strengthen(worker, fault, fault.factor or DEFAULT_SLOWNESS)
            case "partition":
                self._strengthen(worker, fault, 1.0)
            case "error_burst":
                self._strengthen(worker, fault, fault.share or DEFAULT_ERROR_SHARE)

    def _strengthen(self, worker: S, fault: Fault, strength: float) -> None:
        """Add a fault that can overlap with its like, and take it away again when it is over."""
        active = self._active.setdefault((worker.name, fault.kind), [])
        active.append(strength)
        self._apply(worker, fault.kind, active)
        if fault.kind != "node_loss":
            self._later(fault.lasts, self._weaken, worker, fault.kind, strength)

    def _weaken(self, worker: S, kind: str, strength: float) -> None:
        active = self._active.get((worker.name, kind), [])
        if strength in active:
            active.remove(strength)
            self._apply(worker, kind, active)

    def _apply(self, worker: S, kind: str, active: list[float]) -> None:
        if not worker.is_running:
            return
        if kind == "slow_replica":
            factor = 1.0
            for strength in active:
                factor *= strength
            worker.post("/control/slow", {"factor": factor})
        elif kind == "error_burst":
            spared = 1.0
            for strength in active:
                spared *= 1.0 - strength
            worker.post("/control/faults", {"error_share": 1.0 - spared})
        else:
            worker.set_partitioned(bool(active))

    def _replace(self, worker: S) -> None:
        self._crew.kill(worker)
        self._restart(worker)

    def _restart(self, worker: S) -> None:
        """Start a worker anew; what was wrong with it is gone with the old process."""
        for name, kind in list(self._active):
            if name == worker.name:
                del self._active[name, kind]
        self._crew.start(worker)
        self._later(LOOK_SECONDS, self._look, worker)

    def _look(self, worker: S) -> None:
        """Note when a worker that was started again serves."""
        if worker.state() == "ready":
            self._note("replica_ready", worker.name, "cold start over", None)
        elif worker.is_running:
            self._later(LOOK_SECONDS, self._look, worker)

    def _cold_start(self, worker: S) -> float:
        """How long to wait before the process is started, so that it serves when the cold start is over."""
        return max(
            0.0, cold_start_of(self._stack.pool_of(worker.name)).seconds(has_image=True) - self._starting_seconds
        )

    def _note(self, kind: str, target: str, about: str, lasts: float | None) -> None:
        at = time.monotonic() - self._zero
        self.events.append({"at": at, "kind": kind, "target": target, "lasts": lasts, "about": about})

    def _later(self, seconds: float, what: Callable[..., None], *arguments: Any) -> None:
        self._agenda.enter(seconds, 1, what, arguments)

    def _targets(self, target: str) -> list[str]:
        if target in self._stack.workers:
            return [target]
        if target in self._stack.pools:
            return [worker.name for worker in self._stack.workers_of(target)]
        return list(self._stack.nodes.get(target, ()))
