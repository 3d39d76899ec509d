"""The components that are not ours: their versions from one file, and their manifests as those versions have them.

`manifests/platform` is ordinary kustomize with pinned references. A file given with `--components` changes versions and
leaves parts out; it is applied to a copy of the manifests, so that what is checked in is what is used by default.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from e2e.checkout import ROOT
from sim.experiment.errors import InputError

MANIFESTS = ROOT / "manifests"
VERSIONS = "components.yaml"
BUILD_SECONDS = 180
KEYS = ("version", "repository", "image", "install", "without", "args")

_DIGEST = re.compile(r"(\bimage: \S+?)@sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One component; `without` names the parts of upstream's installation that are left out, by name alone."""

    name: str
    version: str
    repository: str = ""
    image: str = ""
    without: tuple[str, ...] = ()
    args: tuple[str, ...] = ()

    def leaves_out(self, part: str) -> bool:
        """Say whether a part is left out."""
        return part in self.without


def read_components(given: Path | None = None, manifests: Path = MANIFESTS) -> dict[str, Component]:
    """Return the components by name: those of the manifests, with what `given` says of them instead.

    A component that only `given` knows is returned as well: it may say what else a machine can have.

    Raises:
        InputError: a file that cannot be read, a key that is unknown, or no version.
    """
    path = manifests / VERSIONS
    found = {name: _component(path, name, entry) for name, entry in _read(path).items()}
    for name, entry in _read(given).items() if given else ():
        told = _component(given, name, entry)
        known = found.get(name)
        found[name] = (
            replace(told, repository=told.repository or known.repository, image=known.image or told.image)
            if known
            else told
        )
    return found


def render(
    folder: str,
    components: Mapping[str, Component],
    manifests: Path = MANIFESTS,
    *,
    kubectl: str = "kubectl",
    seconds: float = BUILD_SECONDS,
) -> str:
    """Return the YAML of one folder of the manifests, such as `platform/ingress/nginx`, with these components.

    Raises:
        InputError: there is no such folder, or kustomize cannot build it (with what it said).
    """
    if not (manifests / folder / "kustomization.yaml").is_file():
        raise InputError(f"{manifests / folder}: there is no kustomization.yaml")
    defaults = read_components(None, manifests)
    with tempfile.TemporaryDirectory(prefix="windtunnel-manifests-") as directory:
        copy = Path(directory) / "manifests"
        shutil.copytree(manifests, copy, ignore=shutil.ignore_patterns("chart"))
        used = _set_versions(copy / folder, defaults, components)
        top = copy / "rendered"
        top.mkdir()
        _write_top(top, copy / folder, used)
        text = build(top, kubectl=kubectl, seconds=seconds)
    if any(component.leaves_out("image digest") for component in used):
        text = _DIGEST.sub(r"\1", text)
    return text


def build(directory: Path, *, kubectl: str = "kubectl", seconds: float = BUILD_SECONDS) -> str:
    """Return what `kubectl kustomize` makes of a directory.

    Raises:
        InputError: kubectl is missing, or says no.
    """
    try:
        done = subprocess.run(
            [kubectl, "kustomize", str(directory)], capture_output=True, text=True, timeout=seconds, check=False
        )
    except FileNotFoundError as error:
        raise InputError(f"{kubectl} is not installed: kustomize is a part of it") from error
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"{directory}: kustomize has not ended after {seconds:g} s: can its remote references be reached?"
        ) from error
    if done.returncode:
        raise InputError(f"{directory}: {done.stderr.strip()}")
    return done.stdout


def _set_versions(
    folder: Path, defaults: Mapping[str, Component], components: Mapping[str, Component]
) -> list[Component]:
    """Write the components' versions into the kustomizations below a folder; return those that are used there."""
    used = []
    for path in sorted(folder.rglob("kustomization.yaml")):
        text = path.read_text()
        for name, default in defaults.items():
            wanted = components.get(name, default)
            if default.repository and f"{default.repository}/" in text:
                reference = re.compile(rf"{re.escape(default.repository)}(/\S*?)\?ref={re.escape(default.version)}\b")
                text = reference.sub(rf"{wanted.repository}\g<1>?ref={wanted.version}", text)
            elif default.image and f"name: {default.image}," in text:
                text = text.replace(f"newTag: {default.version}", f"newTag: {wanted.version}")
            else:
                continue
            used.append(wanted)
        path.write_text(text)
    return used


def _write_top(top: Path, folder: Path, used: list[Component]) -> None:
    """Write a kustomization around a folder that leaves parts out and adds arguments."""
    here = Path("..") / folder.relative_to(top.parent)
    parts = [f"without_{part.replace(' ', '_')}" for component in used for part in component.without]
    document: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [str(here)],
        "components": [str(here / part) for part in parts if (folder / part).is_dir()],
        "patches": [
            {
                "target": {"kind": "Deployment", "name": component.name},
                "patch": f'[{{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "{argument}"}}]',
            }
            for component in used
            for argument in component.args
        ],
    }
    with open(top / "kustomization.yaml", "w") as out:
        YAML(typ="safe").dump(document, out)


def _read(path: Path | None) -> dict[str, Any]:
    assert path is not None
    try:
        found = YAML(typ="safe").load(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except YAMLError as error:
        raise InputError(f"{path}: is not YAML: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no components; expected `name: {{version: …}}` for each")
    return found


def _component(path: Path | None, name: str, entry: Any) -> Component:
    if not isinstance(entry, dict) or not str(entry.get("version", "")):
        raise InputError(f"{path}: {name}: {entry!r} has no version; expected {{version: …}}")
    for key in entry:
        if key not in KEYS:
            close = get_close_matches(str(key), KEYS, 1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise InputError(f"{path}: {name}: there is no key {key!r}{hint}; there are {', '.join(KEYS)}")
    return Component(
        name=name,
        version=str(entry["version"]),
        repository=str(entry.get("repository", "")),
        image=str(entry.get("image", "")),
        without=tuple(re.sub(r"\s*\(.*\)$", "", str(part)) for part in entry.get("without", ())),
        args=tuple(map(str, entry.get("args", ()))),
    )
