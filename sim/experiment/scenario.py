"""Reading a scenario file: YAML with line numbers, overrides, the schema, and errors that say where and what.

Start at `load`. What a block means is in `schema`; what no type can say is in `checks`; `--set` is in `overrides`.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from sim.experiment.errors import ScenarioError
from sim.experiment.explain import KeyPath, explain
from sim.experiment.overrides import apply
from sim.experiment.schema import Scenario
from sim.experiment.suggest import meant

__all__ = ["KeyPath", "LoadedScenario", "ScenarioError", "Source", "find", "load", "parse"]


@dataclass(frozen=True, slots=True)
class LoadedScenario:
    """A scenario with what is known of its file. `yaml_text` is as flown, overrides applied."""

    scenario: Scenario
    yaml_text: str
    path: Path
    base_dir: Path
    """Where the files that it names are looked for."""
    source: Source | None = field(default=None, repr=False, compare=False)
    """Its lines, for errors found after reading; None when the scenario was made in code."""

    def error(self, path: KeyPath, problem: str) -> ScenarioError:
        """Make the error for a place in the file."""
        if self.source is not None:
            return self.source.error(path, problem)
        return ScenarioError(f"{self.path}: {dotted(path)}: {problem}")


@dataclass(slots=True)
class Source:
    """The YAML of a scenario: the tree with its line numbers, and what `--set` changed in it."""

    name: str
    tree: CommentedMap
    overridden: dict[KeyPath, str]

    def where(self, path: KeyPath) -> str:
        """Return `file:line: key.path` of a place, or the `--set` that put it there."""
        for place, override in self.overridden.items():
            if path[: len(place)] == place or (place[: len(path)] == path and not self._stands_in_the_file(path)):
                return f"--set {override}: {dotted(path)}"
        return f"{self.name}:{self._line(path)}: {dotted(path)}" if path else f"{self.name}:1"

    def error(self, path: KeyPath, problem: str) -> ScenarioError:
        """Make the error for a place, or for the plain value that stands above it: where, what, and what was meant."""
        node: Any = self.tree
        for length, part in enumerate(path):
            if not isinstance(node, dict | list):
                path = path[:length]
                break
            try:
                node = node[part]  # type: ignore[index]  # a name in a mapping, a number in a list
            except (LookupError, TypeError):
                node = None
                break
        inside = [override for place, override in self.overridden.items() if place[: len(path)] == path != place]
        with_set = f" (with --set {inside[-1]})" if inside and self._stands_in_the_file(path) else ""
        return ScenarioError(f"{self.where(path)}:{_shown(node)} {problem}{with_set}")

    def _stands_in_the_file(self, path: KeyPath) -> bool:
        return self._walk(path)[1] == len(path)

    def _line(self, path: KeyPath) -> int:
        return self._walk(path)[0]

    def _walk(self, path: KeyPath) -> tuple[int, int]:
        """Return the line of the deepest part of a place that the file has, and how many parts that is."""
        node: Any = self.tree
        line = 1
        for length, part in enumerate(path):
            try:
                if isinstance(node, CommentedMap):
                    line = node.lc.key(part)[0] + 1
                elif isinstance(node, CommentedSeq):
                    line = node.lc.item(part)[0] + 1
                node = node[part]
            except (LookupError, TypeError, AttributeError):
                return line, length
        return line, len(path)


def load(path: Path, overrides: Sequence[str] = ()) -> LoadedScenario:
    """Read, override and check a scenario file; every file that it names is looked for beside it.

    Raises:
        ScenarioError: one message with file, line, key, value, what was expected, and the nearest valid choice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ScenarioError(f"{path}: there is no such scenario file{_nearest_file(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}") from error
    return parse(text, name=str(path), base_dir=path.resolve().parent, overrides=overrides, path=path)


def parse(
    text: str,
    name: str = "<scenario>",
    base_dir: Path | None = None,
    overrides: Sequence[str] = (),
    path: Path | None = None,
) -> LoadedScenario:
    """Read a scenario from text; as `load` otherwise.

    Raises:
        ScenarioError: as `load`.
    """
    from sim.experiment.checks import check
    from sim.experiment.profiles import beside

    source = Source(name, _tree(text, name), {})
    for override in overrides:
        source.overridden[apply(override, source.tree)] = override
    try:
        scenario = Scenario.model_validate(_plain(source.tree))
    except ValidationError as invalid:
        raise explain(invalid, source) from invalid
    base = base_dir or Path()
    check(scenario, source, base)
    flown = _dump(source.tree) if overrides else text
    return LoadedScenario(beside(scenario, base.resolve()), flown, path or Path(name), base, source)


def _shown(value: Any) -> str:
    if value is None or isinstance(value, dict | list):
        return ""
    if isinstance(value, bool):
        return f" {str(value).lower()}:"
    return f" {str(value)!r}:" if isinstance(value, str) else f" {value}:"


def dotted(path: KeyPath) -> str:
    """Write a place as `--set` would: `cluster.pools.0.replicas`."""
    return ".".join(str(part) for part in path)


def find(name: str, directories: Iterable[Path]) -> Path:
    """Find a scenario by path, or by its bare name in the first directory that has it.

    Raises:
        ScenarioError: no directory has it.
    """
    path = Path(name)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path
    shipped = {found.stem: found for directory in reversed([*directories]) for found in directory.glob("*.yaml")}
    if name in shipped:
        return shipped[name]
    raise ScenarioError(
        f"{name}: there is no such file or shipped scenario{meant(name, shipped)}; "
        f"expected a path, or one of {', '.join(sorted(shipped))}"
    )


def _tree(text: str, name: str) -> CommentedMap:
    reader = YAML(typ="rt")
    try:
        tree = reader.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ScenarioError(f"{name}:{line}: this is not YAML: {error.problem or error.context}") from error
    except YAMLError as error:
        raise ScenarioError(f"{name}: this is not YAML: {error}") from error
    except RecursionError:
        raise ScenarioError(f"{name}: is nested too deeply for a scenario") from None
    if not isinstance(tree, CommentedMap):
        raise ScenarioError(f"{name}:1: expected a scenario, a mapping that begins with `windtunnel: 1`")
    return tree


def _plain(node: Any) -> Any:
    """Turn the tree into plain values; a YAML float where a unit belongs must not pass for seconds from code."""
    if isinstance(node, CommentedMap):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return tuple(_plain(value) for value in node)
    if isinstance(node, bool) or node is None:
        return node
    if isinstance(node, float):
        return YamlFloat(node)
    return int(node) if isinstance(node, int) else str(node)


class YamlFloat(float):
    """A float as the file has it: a number, but no duration and no rate."""


def _dump(tree: CommentedMap) -> str:
    out = io.StringIO()
    writer = YAML(typ="rt")
    writer.width = 120
    writer.dump(tree, out)
    return out.getvalue()


def _nearest_file(path: Path) -> str:
    directory = path.parent
    if not directory.is_dir():
        return f"; there is no directory {str(directory)!r} either"
    return meant(path.name, [other.name for other in directory.glob("*.yaml")])
