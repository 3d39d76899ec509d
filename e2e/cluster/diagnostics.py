"""A bundle of what a cluster says of itself, for whoever looks into a failure: bounded, and without secrets."""

from __future__ import annotations

import io
import json
import tarfile
import time
from pathlib import Path

from e2e.cluster.place import NAMESPACE, Place
from e2e.cluster.programs import StageFailed

NAMESPACES = (NAMESPACE, "ingress-nginx", "metallb-system")
TAIL_LINES = 2000
MAX_BYTES = 2 * 2**20
"""Of one file of the bundle; the end counts."""

QUESTIONS = {
    "nodes.txt": ("get", "nodes", "-o", "wide"),
    "nodes-described.txt": ("describe", "nodes"),
    "all.txt": ("get", "all,ingress,networkpolicy,endpointslice,pdb,hpa,pvc", "--all-namespaces", "-o", "wide"),
    "events.txt": ("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"),
    "pods-described.txt": ("describe", "pods", "--all-namespaces"),
    "policies.yaml": ("get", "networkpolicy", "--all-namespaces", "-o", "yaml"),
    "config-maps-of-the-door.yaml": ("get", "configmap", "-n", "ingress-nginx", "-o", "yaml"),
}


def bundle(place: Place, target: Path, more: tuple[str, ...] = ()) -> list[str]:
    """Write the bundle, a .tar.gz, with the logs of the stack's namespaces and `more`; return the names of its files.

    What cannot be had is there as the reason why.
    """
    names = []
    with tarfile.open(target, "w:gz") as archive:
        for name, text in _all(place, (*NAMESPACES, *more)):
            raw = text.encode()[-MAX_BYTES:]
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(raw), int(time.time())
            archive.addfile(entry, io.BytesIO(raw))
            names.append(name)
    return names


def _all(place: Place, namespaces: tuple[str, ...]) -> list[tuple[str, str]]:
    found = [(name, _told(place, *question)) for name, question in QUESTIONS.items()]
    for namespace in namespaces:
        for pod in _pods(place, namespace):
            for which, more in (("", ()), ("-before", ("--previous",))):
                text = _told(place, "logs", "-n", namespace, pod, "--all-containers", f"--tail={TAIL_LINES}", *more)
                if not (which and "previous terminated container" in text):
                    found.append((f"logs/{namespace}/{pod}{which}.txt", text))
    return found


def _pods(place: Place, namespace: str) -> list[str]:
    told = _told(place, "get", "pods", "-n", namespace, "-o", "json")
    try:
        return [pod["metadata"]["name"] for pod in json.loads(told)["items"]]
    except (json.JSONDecodeError, KeyError):
        return []


def _told(place: Place, *question: str) -> str:
    try:
        answer = place.programs.ask("kubectl", *question, seconds=60)
    except StageFailed as error:
        return f"not to be had: {error}"
    return answer.out or answer.err
