"""Pods as servers of a flight: made and lost on the scenario's word, asked through the router's pod."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from e2e.cluster.place import Place
from e2e.cluster.platform import APPLY
from e2e.cluster.programs import StageFailed
from e2e.rungs.kind.asking import Asker
from e2e.rungs.kind.manifests import PARTITIONED, FlightManifests

POLL_SECONDS = 0.3
GONE_SECONDS = 30.0


@dataclass(slots=True)
class Front:
    """The router's or the gateway's pods; each is asked from inside itself."""

    name: str
    askers: list[Asker]
    is_running: bool = True

    def state(self) -> str:
        """Return `ready`, or what it said instead."""
        told = [asker.ask("GET", "http://127.0.0.1:8000/healthz") for asker in self.askers]
        return "ready" if all(status == 200 for status, _ in told) else str(told)

    def page(self) -> str:
        """Return the metrics pages of its pods, one after the other; of a pod that does not answer, none."""
        return "\n".join(_page(asker, "http://127.0.0.1:8000") for asker in self.askers)

    def post(self, path: str, payload: dict[str, Any]) -> None:
        """It has no control routes.

        Raises:
            OSError: always.
        """
        raise OSError(f"{self.name} has no {path}")

    def set_partitioned(self, is_partitioned: bool) -> None:
        """It cannot be cut off.

        Raises:
            OSError: always.
        """
        raise OSError(f"{self.name} cannot be partitioned")


@dataclass(slots=True)
class Pod:
    """One replica. `asker` asks for it from where policies let it be asked."""

    name: str
    namespace: str
    place: Place
    asker: Asker
    address: str = ""
    is_running: bool = False
    is_listed: bool = True

    @property
    def url(self) -> str:
        """Where it listens, inside the cluster."""
        return f"http://{self.address}:8000"

    def state(self) -> str:
        """Ask Kubernetes whether it is ready; return `ready`, or what it is instead."""
        answer = self.place.programs.ask(
            "kubectl", "-n", self.namespace, "get", "pod", self.name, "-o", "json", seconds=20
        )
        if answer.code:
            return answer.last_words
        return self.seen(json.loads(answer.out))

    def seen(self, told: dict[str, Any]) -> str:
        """Read its state from its object, as `state` tells it."""
        status = told["status"]
        self.address = status.get("podIP", self.address)
        is_ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ()))
        if is_ready:
            return "ready"
        waiting = [one["state"].get("waiting", {}).get("reason") for one in status.get("containerStatuses", ())]
        return str(next(filter(None, waiting), status.get("phase", "unknown")))

    def page(self) -> str:
        """Return its metrics page; empty when it does not answer."""
        return _page(self.asker, self.url) if self.is_running and self.address else ""

    def post(self, path: str, payload: dict[str, Any]) -> None:
        """Tell it something on a control route.

        Raises:
            OSError: it did not answer 2xx.
        """
        status, text = self.asker.ask("POST", self.url + path, payload)
        if not 200 <= status < 300:
            raise OSError(f"{self.name}: {path} answered {status}: {text[:200]}")

    def set_partitioned(self, is_partitioned: bool) -> None:
        """Take it out of the policy that lets the router reach it, or put it back.

        A policy leaves connections that are established alone, so the worker falls silent on them itself.

        Raises:
            OSError: it could not be done.
        """
        if is_partitioned:
            self.post("/control/faults", {"is_partitioned": True})
        self.label(PARTITIONED, "true" if is_partitioned else None)
        if not is_partitioned:
            self._post_when_reachable("/control/faults", {"is_partitioned": False})

    def label(self, key: str, value: str | None) -> None:
        """Set a label, or take it away.

        Raises:
            OSError: it could not be done.
        """
        word = f"{key}-" if value is None else f"{key}={value}"
        answer = self.place.programs.ask(
            "kubectl", "-n", self.namespace, "label", "--overwrite", "pod", self.name, word, seconds=20
        )
        if answer.code:
            raise OSError(f"{self.name}: {answer.last_words}")

    def _post_when_reachable(self, path: str, payload: dict[str, Any]) -> None:
        # the network takes a moment to hear of a changed policy
        for _ in range(10):
            try:
                return self.post(path, payload)
            except OSError as error:
                problem = error
                time.sleep(POLL_SECONDS)
        raise problem


@dataclass(slots=True)
class Pods:
    """Makes the pods of a flight, and ends them."""

    place: Place
    manifests: FlightManifests
    is_ending: bool = field(default=False)

    def start(self, pod: Pod) -> None:
        """Make a pod; does nothing once the flight is ending.

        Raises:
            OSError: Kubernetes says no.
        """
        if self.is_ending:
            return
        self._must(*APPLY, given=json.dumps(self.manifests.pod(pod.name)))
        pod.is_running, pod.address, pod.is_listed = True, "", True

    def kill(self, pod: Pod) -> None:
        """End a pod's process at once, as a crash does, and take away what is left of the pod.

        Raises:
            OSError: what is left does not go.
        """
        if not pod.is_running:
            return
        pod.is_running = False
        # a process that dies does not answer
        with contextlib.suppress(OSError):
            pod.post("/control/crash", {})
        self._delete([pod], "--grace-period=0", "--force")

    def stop(self, pods: Iterable[Pod]) -> None:
        """Ask pods to end, and wait until they have.

        Raises:
            OSError: they do not.
        """
        there = [pod for pod in pods if pod.is_running]
        for pod in there:
            pod.is_running = False
        self._delete(there)

    def _delete(self, pods: list[Pod], *how: str) -> None:
        if pods:
            names = [pod.name for pod in pods]
            words = ("delete", "pod", *names, "--ignore-not-found", f"--timeout={GONE_SECONDS:.0f}s", *how)
            self._must("kubectl", "-n", self.manifests.namespace, *words)

    def _must(self, *command: str, given: str | None = None) -> None:
        try:
            self.place.programs.must(*command, seconds=GONE_SECONDS + 10, given=given)
        except StageFailed as error:
            raise OSError(str(error)) from error


def _page(asker: Asker, url: str) -> str:
    try:
        status, text = asker.ask("GET", f"{url}/metrics")
    except OSError:
        return ""
    return text if status == 200 else ""
