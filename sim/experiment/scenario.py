"""Reading a scenario file: YAML with line numbers, overrides, the schema, and errors that say where and what.

Start at `load`. What a block means is in `schema`; what no type can say is in `checks`.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from sim.experiment.errors import InputError
from sim.experiment.schema import Block, Scenario

KeyPath = tuple[str | int, ...]


class ScenarioError(InputError):
    """A scenario file or an override that cannot be flown."""


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
        """Return `file:line: key.path` of a place, or of the nearest one around it that exists."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overridden:
                return f"--set {self.overridden[path[:length]]}: {dotted(path)}"
        return f"{self.name}:{self._line(path)}: {dotted(path)}" if path else f"{self.name}:1"

    def value(self, path: KeyPath) -> Any:
        """Return what stands at a place, None when nothing does."""
        node: Any = self.tree
        for part in path:
            try:
                node = node[part]
            except (KeyError, IndexError, TypeError):
                return None
        return node

    def error(self, path: KeyPath, problem: str) -> ScenarioError:
        """Make the error for a place: where, the value, and what was expected."""
        value = self.value(path)
        shown = "" if value is None or isinstance(value, dict | list) else f" {str(value)!r}:"
        return ScenarioError(f"{self.where(path)}:{shown} {problem}")

    def _line(self, path: KeyPath) -> int:
        node: Any = self.tree
        line = 1
        for part in path:
            try:
                if isinstance(node, CommentedMap):
                    line = node.lc.key(part)[0] + 1
                elif isinstance(node, CommentedSeq):
                    line = node.lc.item(part)[0] + 1
                node = node[part]
            except (KeyError, IndexError, TypeError, AttributeError):
                break
        return line


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

    source = Source(name, _tree(text, name), {})
    for override in overrides:
        _override(source, override)
    try:
        scenario = Scenario.model_validate(_plain(source.tree))
    except ValidationError as invalid:
        raise _explain(source, invalid) from invalid
    base = base_dir or Path()
    check(scenario, source, base)
    flown = _dump(source.tree) if overrides else text
    return LoadedScenario(scenario, flown, path or Path(name), base, source)


def dotted(path: KeyPath) -> str:
    """Write a place as `--set` would: `cluster.pools.0.replicas`."""
    return ".".join(str(part) for part in path)


def find(name: str, directories: Iterable[Path]) -> Path:
    """Find a scenario by path, or by its bare name in the first directory that has it."""
    path = Path(name)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path
    for directory in directories:
        candidate = directory / f"{name}.yaml"
        if candidate.exists():
            return candidate
    return path


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


def _override(source: Source, override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ScenarioError(f"--set {override}: expected key=value, such as cluster.pools.0.replicas=3")
    node: Any = source.tree
    path: list[str | int] = []
    for position, part in enumerate(parts := key.split(".")):
        index = _child(source, node, part, override, path)
        path.append(index)
        if position == len(parts) - 1:
            node[index] = _tree_value(value, override)
        else:
            if isinstance(node, CommentedMap) and (index not in node or isinstance(node[index], str)):
                node[index] = CommentedMap()
            node = node[index]
    source.overridden[tuple(path)] = override


def _child(source: Source, node: Any, part: str, override: str, path: list[str | int]) -> str | int:
    if isinstance(node, CommentedMap):
        return part
    if not isinstance(node, CommentedSeq):
        raise ScenarioError(
            f"--set {override}: {'.'.join(map(str, path))} has no parts, so {part!r} cannot be set in it"
        )
    names = {
        str(item.get("name") or item.get("engine")): place for place, item in enumerate(node) if isinstance(item, dict)
    }
    if part.isdigit() and int(part) < len(node):
        return int(part)
    if part in names:
        return names[part]
    raise ScenarioError(
        f"--set {override}: {'.'.join(map(str, path))} has {len(node)} entries ({', '.join(names) or 'unnamed'}); "
        f"expected 0 to {len(node) - 1} or a name{_meant(part, names)}"
    )


def _tree_value(value: str, override: str) -> Any:
    try:
        return YAML(typ="rt").load(value)
    except YAMLError as error:
        raise ScenarioError(f"--set {override}: {value!r} is not a YAML value") from error


def _dump(tree: CommentedMap) -> str:
    out = io.StringIO()
    writer = YAML(typ="rt")
    writer.width = 120
    writer.dump(tree, out)
    return out.getvalue()


def _explain(source: Source, invalid: ValidationError) -> ScenarioError:
    errors = invalid.errors(include_url=False)
    # an unknown key explains a missing one, so it is told first
    error = min(errors, key=lambda found: (found["type"] != "extra_forbidden", found["type"] == "missing"))
    path: KeyPath = tuple(part for part in error["loc"])
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if error["type"] == "extra_forbidden":
        known = _keys_at(path[:-1])
        return ScenarioError(
            f"{source.where(path)}: unknown key {path[-1]!r}{_meant(str(path[-1]), known)}; "
            f"expected one of {', '.join(sorted(known))}{more}"
        )
    if error["type"] == "missing":
        return ScenarioError(f"{source.where(path)}: the key {path[-1]!r} is missing{more}")
    message = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message[0].lower() + message[1:]
    if error["type"] == "literal_error":
        choices = [choice.strip("' ") for choice in str(error["ctx"]["expected"]).replace(" or ", ", ").split(",")]
        message = f"expected one of {', '.join(choices)}{_meant(str(error['input']), choices)}"
    elif message.startswith("input should be"):
        message = "expected" + message.removeprefix("input should be")
    return ScenarioError(f"{source.error(path, message)}{more}")


def _keys_at(path: KeyPath) -> list[str]:
    """Return the keys that the schema knows at a place."""
    block: type[BaseModel] = Scenario
    for part in path:
        if isinstance(part, str) and part in block.model_fields:
            block = _block_in(block.model_fields[part].annotation) or block
    return list(block.model_fields)


def _block_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return annotation
    for argument in get_args(annotation):
        if found := _block_in(argument):
            return found
    return None


def _meant(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, list(known), 1, 0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _nearest_file(path: Path) -> str:
    directory = path.parent
    if not directory.is_dir():
        return f"; there is no directory {str(directory)!r} either"
    return _meant(path.name, [other.name for other in directory.glob("*.yaml")])
