"""The faults of a scenario, done to real processes: a crash is a SIGKILL, a slow replica is told to be slow."""

from __future__ import annotations

import sched
import threading
import time
from typing import Any

from e2e.rungs.processes import Crew, Process, post
from e2e.rungs.stack import Stack
from sim.experiment.schema import Fault, Scenario


class Mischief:
    """A thread that does each fault at its time and undoes it when it is over."""

    def __init__(self, scenario: Scenario, crew: Crew, stack: Stack) -> None:
        self.events: list[dict[str, Any]] = []
        self._scenario = scenario
        self._crew = crew
        self._stack = stack
        self._stop = threading.Event()
        self._agenda = sched.scheduler(time.monotonic, self._sleep)
        self._thread = threading.Thread(target=self._agenda.run, name="faults", daemon=True)

    def start(self, zero: float) -> None:
        """Put every fault on the agenda, from `zero` on the monotonic clock."""
        for fault in self._scenario.faults:
            self._agenda.enterabs(zero + fault.at, 1, self._begin, (fault,))
        self._thread.start()

    def stop(self) -> None:
        """Forget what is still to come."""
        self._stop.set()
        for entry in self._agenda.queue:
            self._agenda.cancel(entry)

    def _sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _begin(self, fault: Fault) -> None:
        if self._stop.is_set():
            return
        names = self._targets(fault.target)
        self.events.append(
            {
                "at": fault.at,
                "kind": fault.kind,
                "target": fault.target,
                "lasts": fault.lasts,
                "about": ", ".join(names),
            }
        )
        for name in names:
            self._do(fault, self._stack.workers[name])

    def _do(self, fault: Fault, worker: Process) -> None:
        control = f"{worker.url}/control"
        match fault.kind:
            case "replica_crash" | "node_loss":
                self._crew.kill(worker)
                cold_start = next(
                    p.cold_start for p in self._scenario.cluster.pools if p.model == worker.config["model"]
                )
                self._later(fault.lasts + cold_start, self._crew.start, worker)
            case "slow_replica":
                post(f"{control}/slow", {"factor": fault.factor or 2.0})
                self._later(fault.lasts, post, f"{control}/slow", {"factor": 1.0})
            case "stall":
                post(f"{control}/stall", {"seconds": fault.lasts})
            case "partition":
                post(f"{control}/faults", {"is_partitioned": True})
                self._later(fault.lasts, post, f"{control}/faults", {"is_partitioned": False})
            case "error_burst":
                post(f"{control}/faults", {"error_share": fault.share or 1.0})
                self._later(fault.lasts, post, f"{control}/faults", {"error_share": 0.0})

    def _later(self, seconds: float, what: Any, *arguments: Any) -> None:
        self._agenda.enter(seconds, 1, what, arguments)

    def _targets(self, target: str) -> list[str]:
        if target in self._stack.nodes:
            return list(self._stack.nodes[target])
        pools = {pool.name or pool.engine for pool in self._scenario.cluster.pools}
        if target in pools:
            return [name for name in self._stack.workers if name.rpartition("-")[0] == target]
        return [name for name in self._stack.workers if name == target]
