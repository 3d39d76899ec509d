"""The stack of a flight as it stands in its namespace: pitched, known by name, and struck whatever happens."""

from __future__ import annotations

import base64
import json
import signal
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any

from e2e.cluster.certificates import certificate_for
from e2e.cluster.place import Place
from e2e.cluster.platform import APPLY, rolled_out
from e2e.cluster.programs import StageFailed
from e2e.cluster.stages import Clock
from e2e.rungs.kind.asking import Asker
from e2e.rungs.kind.manifests import DECISIONS, LISTED, FlightManifests
from e2e.rungs.kind.pods import Front, Pod, Pods
from sim.experiment.errors import InputError
from sim.experiment.schema import Pool

READY_SECONDS = 180.0


@dataclass(slots=True)
class Camp:
    """A namespace with the stack of one flight. Use it as a context: on leaving it the namespace is gone.

    SIGTERM ends a flight as Ctrl-C does. `is_kept` leaves the namespace there.
    """

    place: Place
    manifests: FlightManifests
    is_kept: bool = False
    workers: dict[str, Pod] = field(default_factory=dict)
    router: Front = field(default_factory=lambda: Front("router", []))
    gateway: Front = field(default_factory=lambda: Front("gateway", []))
    nodes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    hands: Pods = field(init=False)
    _handlers: dict[signal.Signals, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.hands = Pods(self.place, self.manifests)

    @property
    def pools(self) -> dict[str, Pool]:
        """By name."""
        return self.manifests.pools

    def __enter__(self) -> Camp:
        if threading.current_thread() is threading.main_thread():
            self._handlers[signal.SIGTERM] = signal.signal(signal.SIGTERM, _interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handlers:
            # an impatient second Ctrl-C would leave the namespace there
            self._handlers[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.hands.is_ending = True
        for asker in {*self.router.askers, *self.gateway.askers}:
            asker.close()
        if not self.is_kept:
            words = ("delete", "namespace", self.manifests.namespace, "--ignore-not-found", "--wait=false")
            self.place.programs.ask("kubectl", *words, seconds=60)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def pitch(self) -> float:
        """Make everything and wait until it serves; return how long a replica took, in seconds.

        Raises:
            InputError: it did not come up in time; with what was seen last.
        """
        clock = Clock(time.monotonic() + READY_SECONDS)
        programs = self.place.programs
        try:
            programs.must(*APPLY, given=json.dumps(self.manifests.namespace_object()))
            objects = self.manifests.objects(self._certificate())
            programs.must(*APPLY, seconds=60, given=_listed(objects))
            for name in ("router", "llm-api"):
                rolled_out(self.place, self.manifests.namespace, f"deployment/{name}", clock)
            self.router.askers = [self._asker(pod) for pod in self._pods_of("router")]
            self.gateway.askers = [self._asker(pod) for pod in self._pods_of("llm-api")]
            for name, pool in self.pools.items():
                ours = [self.add_worker(name).name for _ in range(pool.replicas)]
                for start in range(0, len(ours), pool.replicas_per_node):
                    self.nodes[f"node-{len(self.nodes)}"] = tuple(ours[start : start + pool.replicas_per_node])
            began = time.monotonic()
            programs.must(*APPLY, seconds=60, given=_listed([self.manifests.pod(name) for name in self.workers]))
            for pod in self.workers.values():
                pod.is_running = True
            clock.until(self._missing)
            took = time.monotonic() - began
            clock.until(self._unseen_by_router)
        except StageFailed as error:
            raise InputError(f"--on kind: the stack of the flight did not come up: {error}") from error
        return took

    def decisions(self) -> bytes:
        """Return the router's decision log, of all its pods."""
        words = ("exec", "-n", self.manifests.namespace)
        logs = [
            self.place.programs.must("kubectl", *words, pod, "--", "cat", DECISIONS, seconds=120)
            for pod in self._pods_of("router")
        ]
        return "".join(logs).encode()

    def workers_of(self, pool: str) -> list[Pod]:
        """The workers of a pool, in order."""
        return [worker for name, worker in list(self.workers.items()) if name.rpartition("-")[0] == pool]

    def pool_of(self, worker: str) -> Pool:
        """The pool that a worker belongs to."""
        return self.pools[worker.rpartition("-")[0]]

    def add_worker(self, pool: str) -> Pod:
        """Work out one more worker of a pool, with the smallest ordinal that nobody has; it is not started yet."""
        ordinal = 0
        while f"{pool}-{ordinal}" in self.workers:
            ordinal += 1
        name = f"{pool}-{ordinal}"
        self.workers[name] = Pod(name, self.manifests.namespace, self.place, self.router.askers[0])
        return self.workers[name]

    def remove_worker(self, name: str) -> None:
        """Forget a worker that has ended."""
        del self.workers[name]

    def list_workers(self, leaving: Collection[str] = ()) -> None:
        """Take those that are leaving out of their Service, so that the router drains them; pods that are new are in.

        Raises:
            OSError: it could not be done.
        """
        for name in leaving:
            pod = self.workers.get(name)
            if pod is not None and pod.is_running and pod.is_listed:
                pod.label(LISTED, None)
                pod.is_listed = False

    def _missing(self) -> str:
        words = ("get", "pods", "-n", self.manifests.namespace, "-o", "json")
        told = json.loads(self.place.programs.must("kubectl", *words, seconds=30))["items"]
        states = {
            one["metadata"]["name"]: self.workers[one["metadata"]["name"]].seen(one)
            for one in told
            if one["metadata"]["name"] in self.workers
        }
        return ", ".join(f"{name}: {states.get(name)}" for name in self.workers if states.get(name) != "ready")

    def _unseen_by_router(self) -> str:
        status, text = self.router.askers[0].ask("GET", "http://127.0.0.1:8000/readyz")
        return "" if status == 200 else f"the router is not ready: {text[:200]}"

    def _certificate(self) -> dict[str, str]:
        certificate, key = certificate_for([self.manifests.host], self.place.authority)
        return {"tls.crt": base64.b64encode(certificate).decode(), "tls.key": base64.b64encode(key).decode()}

    def _pods_of(self, name: str) -> list[str]:
        words = ("get", "pods", "-n", self.manifests.namespace, "-l", f"app.kubernetes.io/name={name}", "-o", "name")
        return self.place.programs.must("kubectl", *words, seconds=30).replace("pod/", "").split()

    def _asker(self, pod: str) -> Asker:
        return Asker(self.place, self.manifests.namespace, pod)


def _listed(objects: list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
