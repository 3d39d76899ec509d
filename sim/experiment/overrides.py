"""`--set key=value`: dotted keys into a scenario, list entries by number or by name.

Knows nothing of the schema: a key that does not exist is refused when the scenario is checked, with the override named.
"""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from sim.experiment.errors import ScenarioError
from sim.experiment.suggest import meant, one_of


def apply(override: str, tree: CommentedMap) -> tuple[str | int, ...]:
    """Set one key of the tree; return its place.

    Raises:
        ScenarioError: not key=value, no such entry in a list, or a place below a plain value.
    """
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ScenarioError(f"--set {override}: expected key=value, such as cluster.pools.0.replicas=3")
    node: Any = tree
    path: list[str | int] = []
    for position, part in enumerate(parts := key.split(".")):
        index = _child(node, part, override, path)
        path.append(index)
        if position == len(parts) - 1:
            node[index] = _tree_value(value, override)
        else:
            node = _opened(node, index)
    return tuple(path)


def _opened(node: Any, index: str | int) -> Any:
    """Return what is below, made a mapping where nothing is, or where a bare name or number stands for a mapping."""
    below = node.get(index) if isinstance(node, CommentedMap) else node[index]
    if below is None:
        node[index] = CommentedMap()
    elif index == "policy" and isinstance(below, str):
        node[index] = CommentedMap(name=below)
    return node[index]


def _child(node: Any, part: str, override: str, path: list[str | int]) -> str | int:
    if isinstance(node, CommentedMap):
        return part
    if not isinstance(node, CommentedSeq):
        raise ScenarioError(
            f"--set {override}: {'.'.join(map(str, path))} has no parts, so {part!r} cannot be set in it"
        )
    # a pool without a name goes by its engine's, which is vllm unless it says otherwise
    names = {
        str(item.get("name") or item.get("engine", "vllm")): place
        for place, item in enumerate(node)
        if isinstance(item, dict)
    }
    if part.isdigit() and int(part) < len(node):
        return int(part)
    if part in names:
        return names[part]
    raise ScenarioError(
        f"--set {override}: there is no {part!r} in {'.'.join(map(str, path))}{meant(part, names)}; "
        f"{one_of([*map(str, range(len(node))), *names], 16)}"
    )


def _tree_value(value: str, override: str) -> Any:
    try:
        return YAML(typ="rt").load(value)
    except YAMLError as error:
        raise ScenarioError(f"--set {override}: {value!r} is not a YAML value") from error
