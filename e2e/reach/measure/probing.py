"""Connections tried from inside pods' own network namespaces, so that a pod needs neither a shell nor tools.

`NodeProber` enters a pod's namespace from its node, where nodes are Docker containers (kind). Start at `Prober`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Protocol

from sim.experiment.errors import InputError

COMMAND_DEADLINE_SECONDS = 120
REACHED = ("connected", "answered")
SUPPORTED = ("TCP", "UDP")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A running pod: where it is, and one of its containers."""

    namespace: str
    name: str
    node: str
    container: str
    """The container's id at the node's runtime, without its scheme."""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Target:
    """An address, protocol and port to try."""

    address: str
    protocol: str
    port: int


class Prober(Protocol):
    """Tries targets from sources, once each."""

    def probe(self, wanted: Mapping[Source, Sequence[Target]]) -> dict[tuple[Source, Target], str]:
        """Return what became of each: connected, answered, refused, silent, or an error's text."""
        ...


@dataclass(slots=True)
class NodeProber:
    """Enters pods' namespaces through Docker containers that are nodes; one process a node and call."""

    patience_seconds: float = 1.0
    _script: str = field(default_factory=lambda: files("e2e.reach.measure").joinpath("probes.pl").read_text())

    def probe(self, wanted: Mapping[Source, Sequence[Target]]) -> dict[tuple[Source, Target], str]:
        """Try everything, nodes side by side.

        Raises:
            InputError: Docker is missing, or a node has no such container.
        """
        by_node: dict[str, dict[Source, Sequence[Target]]] = defaultdict(dict)
        for source, targets in wanted.items():
            if targets:
                by_node[source.node][source] = targets
        found: dict[tuple[Source, Target], str] = {}
        with ThreadPoolExecutor(max_workers=max(1, len(by_node))) as crew:
            for part in crew.map(lambda item: self._on_node(*item), by_node.items()):
                found.update(part)
        return found

    def _on_node(self, node: str, wanted: Mapping[Source, Sequence[Target]]) -> dict[tuple[Source, Target], str]:
        processes = self._processes(node)
        sources = list(wanted)
        for source in sources:
            if source.container not in processes:
                raise InputError(f"node {node}: no running container {source.container[:12]} of pod {source}")
        pids = " ".join(str(processes[source.container]) for source in sources)
        # every source at once; each reads the lines that begin with its process
        shell = (
            "set -e; dir=$(mktemp -d); trap 'rm -rf $dir' EXIT; cat > $dir/all; "
            f'for pid in {pids}; do (sed -n "s/^$pid //p" $dir/all | nsenter --target $pid --net '
            'perl -e "$SCRIPT" "$PATIENCE" > $dir/$pid 2>&1) & done; wait; '
            f'for pid in {pids}; do sed "s/^/$pid /" $dir/$pid; done'
        )
        lines = [
            f"{processes[source.container]} {number} {target.protocol} {target.address} {target.port}"
            for source in sources
            for number, target in enumerate(wanted[source])
        ]
        settings = ["--env", f"SCRIPT={self._script}", "--env", f"PATIENCE={self.patience_seconds}"]
        said = _run([_docker(), "exec", "-i", *settings, node, "bash", "-c", shell], "\n".join(lines) + "\n")
        by_pid = {processes[source.container]: source for source in sources}
        return dict(_results(said, by_pid, wanted))

    def _processes(self, node: str) -> dict[str, int]:
        """Return the process of every running container of a node, by the container's id."""
        rows = _run([_docker(), "exec", node, "ctr", "--namespace", "k8s.io", "tasks", "list"], "").splitlines()
        parts = [row.split() for row in rows[1:]]
        return {row[0]: int(row[1]) for row in parts if len(row) == 3 and row[2] == "RUNNING"}


def sources_of(pods: Sequence[Mapping[str, object]]) -> dict[str, Source]:
    """Return running pods with a network of their own, of objects as the API server tells them, by namespace/name."""
    found = {}
    for pod in pods:
        source = _source(json.loads(json.dumps(pod)))
        if source is not None:
            found[str(source)] = source
    return found


def _source(pod: dict[str, dict[str, object]]) -> Source | None:
    about, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    states = status.get("containerStatuses")
    running = [one for one in states if "running" in one.get("state", {})] if isinstance(states, list) else []
    if spec.get("hostNetwork") or not running or "deletionTimestamp" in about:
        return None
    return Source(
        namespace=str(about["namespace"]),
        name=str(about["name"]),
        node=str(spec["nodeName"]),
        container=str(running[0]["containerID"]).partition("://")[2],
    )


def _results(
    said: str, by_pid: Mapping[int, Source], wanted: Mapping[Source, Sequence[Target]]
) -> list[tuple[tuple[Source, Target], str]]:
    found = []
    for line in said.splitlines():
        pid, _, rest = line.partition(" ")
        number, _, outcome = rest.partition(" ")
        if not number.isdigit() or not outcome:
            raise InputError(f"a probe in the network of pod {by_pid.get(int(pid))} said {rest!r}")
        source = by_pid[int(pid)]
        found.append(((source, wanted[source][int(number)]), outcome))
    missing = sum(map(len, wanted.values())) - len(found)
    if missing:
        raise InputError(f"{missing} probes have told nothing; last seen: {said[-200:]!r}")
    return found


def _docker() -> str:
    program = shutil.which("docker")
    if program is None:
        raise InputError("the nodes of a kind cluster are entered through docker, which is not on the PATH")
    return program


def _run(command: Sequence[str], text: str) -> str:
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=COMMAND_DEADLINE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{command[0]} {command[1]}: no answer in {COMMAND_DEADLINE_SECONDS} s") from error
    if done.returncode:
        raise InputError(
            f"{' '.join(command[:2])} … {command[-1][:40]}: {done.stderr.strip()[-300:] or done.returncode}"
        )
    return done.stdout
