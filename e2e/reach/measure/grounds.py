"""Grounds to measure on: namespaces of our own with pods that listen, made, asked for and removed again.

Everything a `Grounds` makes carries its label and is deleted with its namespaces. Pods run a small Python server on TCP
and UDP. Start at `Grounds`.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sim.experiment.errors import InputError

IMAGE = "python:3.11-slim-bookworm"
LABEL = "windtunnel/measures"
READY_SECONDS = 180
SERVER = """\
import socket, threading
def tcp(port):
    server = socket.create_server(("", port))
    while True:
        server.accept()[0].close()
def udp(port):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("", port))
    while True:
        server.sendto(*server.recvfrom(512))
crew = [threading.Thread(target=kind, args=(port,)) for port in PORTS for kind in (tcp, udp)]
for one in crew: one.start()
"""


@dataclass(slots=True)
class Grounds:
    """Namespaces and pods on a cluster; `kubectl` is the command line that reaches it. Use as a context manager."""

    kubectl: Sequence[str]
    namespaces: Mapping[str, Mapping[str, str]]
    """Labels by name."""
    pods: Mapping[tuple[str, str], Mapping[str, str]]
    """Labels by namespace and name."""
    ports: Mapping[int, tuple[str, str]]
    """The names of the TCP and the UDP port, by number."""
    image: str = IMAGE
    _made: list[str] = field(default_factory=list)

    def __enter__(self) -> Grounds:
        try:
            self.make()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def make(self) -> None:
        """Make namespaces and pods, and wait until all are ready.

        Raises:
            InputError: a namespace is there already, or pods are not ready in time.
        """
        there = set(self.run("get", "namespaces", "--output", "name").split())
        for name in self.namespaces:
            if f"namespace/{name}" in there:
                raise InputError(f"namespace {name} is on the cluster already; it would be deleted afterwards")
        self._made = list(self.namespaces)
        self.apply([*(namespace(*item) for item in self.namespaces.items())])
        self.apply([self.pod(where, name, labels) for (where, name), labels in self.pods.items()])
        for name in self.namespaces:
            self.run(
                "wait", "--namespace", name, "--for=condition=Ready", "pods", "--all", f"--timeout={READY_SECONDS}s"
            )

    def pod(self, where: str, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
        """Return a pod that listens on every port, TCP and UDP."""
        ports = []
        for number, (tcp, udp) in self.ports.items():
            ports.append({"containerPort": number, "protocol": "TCP", "name": tcp})
            ports.append({"containerPort": number, "protocol": "UDP", "name": udp})
        container = {
            "name": "listens",
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["python", "-c", f"PORTS = {list(self.ports)}\n{SERVER}"],
            "ports": ports,
            "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
            "readinessProbe": {"tcpSocket": {"port": min(self.ports)}, "periodSeconds": 1},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }
        low = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": where, "name": name, "labels": dict(labels)},
            "spec": {
                "containers": [container],
                "terminationGracePeriodSeconds": 0,
                "automountServiceAccountToken": False,
                "securityContext": {"sysctls": low},
            },
        }

    def apply(self, objects: Sequence[Mapping[str, Any]]) -> None:
        """Apply objects; none is nothing to do."""
        if objects:
            self.run(
                "apply", "--filename", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
            )

    def told(self, kind: str) -> list[dict[str, Any]]:
        """Return the objects of a kind in these namespaces."""
        found: list[dict[str, Any]] = []
        for name in self._made:
            found += json.loads(self.run("get", kind, "--namespace", name, "--output", "json"))["items"]
        return found

    @property
    def made(self) -> tuple[str, ...]:
        """The namespaces that are there now."""
        return tuple(self._made)

    def add_namespace(self, name: str, labels: Mapping[str, str]) -> None:
        """Make one more namespace."""
        self._made.append(name)
        self.apply([namespace(name, labels)])

    def remove_namespace(self, name: str) -> None:
        """Delete one namespace, if it is there, and everything in it."""
        if name in self._made:
            self.run("delete", "namespace", name, "--wait=true", "--timeout=90s")
            self._made.remove(name)

    def remove(self) -> None:
        """Delete the namespaces, and with them everything in them."""
        made, self._made = self._made, []
        if made:
            self.run("delete", "namespace", "--ignore-not-found", "--wait=true", "--timeout=90s", *made)

    def run(self, *arguments: str, text: str = "") -> str:
        """Run kubectl and return what it prints.

        Raises:
            InputError: it failed; says how.
        """
        deadline = READY_SECONDS + 20
        try:
            done = subprocess.run(
                [*self.kubectl, *arguments], input=text, capture_output=True, text=True, timeout=deadline, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise InputError(f"kubectl {' '.join(arguments[:3])}: no answer in {deadline} s") from error
        if done.returncode:
            raise InputError(f"kubectl {' '.join(arguments[:3])}: {done.stderr.strip()[-400:]}")
        return done.stdout


def namespace(name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return a namespace of ours."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {LABEL: "true", **labels}},
    }


def until(what: str, deadline_seconds: float, pause_seconds: float = 1.0) -> Deadline:
    """Return a deadline to wait with."""
    return Deadline(what, time.monotonic() + deadline_seconds, pause_seconds)


@dataclass(slots=True)
class Deadline:
    """A wait that ends: ask `again` before each attempt."""

    what: str
    end: float
    pause_seconds: float
    _is_first: bool = True

    def again(self) -> bool:
        """Pause, except before the first attempt; return false when the time is up."""
        if self._is_first:
            self._is_first = False
            return True
        if time.monotonic() >= self.end:
            return False
        time.sleep(self.pause_seconds)
        return True
