"""Manifests from files, directories, kustomizations, standard input and a live cluster, as mappings.

A directory with a kustomization is built by `kubectl kustomize` (or `kustomize build`); any other directory is read
with everything below it. Start at `read`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from e2e.reach.parsing import Manifest
from sim.experiment.errors import InputError

SUFFIXES = (".yaml", ".yml", ".json")
KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
LIVE_KINDS = "namespaces,pods,networkpolicies.networking.k8s.io,services,ingresses.networking.k8s.io,replicasets,jobs"
LIVE_DEADLINE_SECONDS = 60


def read(paths: Sequence[str]) -> list[Manifest]:
    """Read every object of files, directories, kustomizations and `-` (standard input).

    Raises:
        InputError: a path is not there, cannot be read, or holds no objects at all.
    """
    found = [manifest for path in paths for manifest in _of_path(path)]
    if not found:
        raise InputError(f"{', '.join(paths)}: no Kubernetes objects there")
    return found


def read_live(kubeconfig: Path | None, context: str | None = None) -> list[Manifest]:
    """Read what a live cluster holds, with pods named by the workloads that own them.

    Raises:
        InputError: kubectl is missing, or the cluster does not answer.
    """
    command = [*kubectl(kubeconfig, context), "get", LIVE_KINDS, "--all-namespaces", "--output", "json"]
    found = list(objects_in(json.loads(_output(command, LIVE_DEADLINE_SECONDS)), "live cluster"))
    owners = {one.key: one for one in found if one.kind in ("ReplicaSet", "Job")}
    kept = [one for one in found if one.kind not in ("ReplicaSet", "Job")]
    for one in kept:
        _name_by_top_owner(one, owners)
    return kept


def kubectl(kubeconfig: Path | None, context: str | None = None) -> list[str]:
    """Return kubectl's command line as far as the cluster is concerned.

    Raises:
        InputError: there is no kubectl.
    """
    program = shutil.which("kubectl")
    if program is None:
        raise InputError("a live cluster is read through kubectl, which is not on the PATH")
    chosen = ["--kubeconfig", str(kubeconfig)] if kubeconfig else []
    return [program, *chosen, *(["--context", context] if context else [])]


def objects_in(document: Any, origin: str) -> Iterator[Manifest]:
    """Yield a document's objects: itself, or a list's items; what has no kind is no object."""
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        return
    kind = document["kind"]
    if not (kind.endswith("List") and isinstance(document.get("items"), list)):
        yield Manifest(document, origin)
        return
    for item in document["items"]:
        if isinstance(item, dict):
            kinds = {} if kind == "List" else {"kind": kind.removesuffix("List")}
            yield from objects_in({**kinds, **item}, origin)


def _name_by_top_owner(manifest: Manifest, owners: dict[tuple[str, str, str], Manifest]) -> None:
    """Let a pod name the Deployment (CronJob) above its ReplicaSet (Job) as its owner."""
    if manifest.kind != "Pod":
        return
    about = manifest.content["metadata"]
    for reference in about.get("ownerReferences") or []:
        above = owners.get((reference.get("kind"), about["namespace"], reference.get("name")))
        if above and above.content["metadata"].get("ownerReferences"):
            about["ownerReferences"] = above.content["metadata"]["ownerReferences"]
            return


def _of_path(text: str) -> Iterator[Manifest]:
    if text == "-":
        yield from _of_text(sys.stdin.read(), "standard input")
        return
    path = Path(text)
    if path.is_dir():
        if any((path / name).is_file() for name in KUSTOMIZATIONS):
            yield from _of_text(_kustomized(path), str(path))
            return
        files = sorted(one for one in path.rglob("*") if one.suffix in SUFFIXES and one.is_file())
        for file in files:
            if file.name not in KUSTOMIZATIONS:
                yield from _of_file(file)
        return
    if not path.is_file():
        raise InputError(f"{text}: there is no such file or directory")
    yield from _of_file(path)


def _of_file(path: Path) -> Iterator[Manifest]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    yield from _of_text(text, str(path))


def _of_text(text: str, origin: str) -> Iterator[Manifest]:
    if text.lstrip().startswith("{"):
        try:
            documents: list[Any] = [json.loads(text)]
        except json.JSONDecodeError as error:
            raise InputError(f"{origin}, line {error.lineno}: not JSON: {error.msg}") from error
    else:
        documents = yaml_documents(text, origin)
    for document in documents:
        yield from objects_in(document, origin)


def yaml_documents(text: str, origin: str) -> list[Any]:
    """Return the documents of a YAML text.

    Raises:
        InputError: it is not YAML; says where.
    """
    import yaml

    # libyaml's loader is fifteen times as fast; PyYAML is built without it on some platforms
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return list(yaml.load_all(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise InputError(f"{origin}, line {line}: not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{origin}: not YAML: {error}") from error


def _kustomized(path: Path) -> str:
    for program, arguments in (("kubectl", ["kustomize"]), ("kustomize", ["build"])):
        if found := shutil.which(program):
            return _output([found, *arguments, str(path)], LIVE_DEADLINE_SECONDS)
    raise InputError(f"{path}: a kustomization, which kubectl or kustomize builds, and neither is on the PATH")


def _output(command: Sequence[str], deadline_seconds: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=deadline_seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{' '.join(command)}: no answer in {deadline_seconds:.0f} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise InputError(f"{' '.join(command)}: {said[-1]}")
    return done.stdout
