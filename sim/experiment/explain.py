"""What the schema found wrong, said in a sentence: which key, which value, what was expected, what is nearest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sim.experiment.errors import ScenarioError
from sim.experiment.schema import Block, Scenario
from sim.experiment.suggest import meant

KeyPath = tuple[str | int, ...]


IN_WORDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "tuple_type": "a list, such as [1, 2]",
    "too_short": "at least one entry",
    "model_type": "a mapping, such as {key: value}",
    "model_attributes_type": "a mapping, such as {key: value}",
    "dict_type": "a mapping, such as {key: value}",
}
"""What pydantic calls otherwise than a YAML file does."""


class Place(Protocol):
    """Whatever knows the lines of a scenario's keys."""

    def where(self, path: KeyPath) -> str:
        """Return file, line and dotted key."""

    def error(self, path: KeyPath, problem: str) -> ScenarioError:
        """Make the error for a place, with its value."""


def explain(invalid: ValidationError, source: Place) -> ScenarioError:
    """Make the one message for what the schema found wrong, unknown keys first."""
    errors = _causes(invalid.errors(include_url=False))
    # an unknown key explains a missing one, so it is told first
    error = min(errors, key=lambda found: (found["type"] != "extra_forbidden", found["type"] == "missing"))
    path: KeyPath = tuple(part for part in error["loc"])
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if error["type"] == "extra_forbidden":
        known, key = _keys_at(path[:-1]), str(path[-1])
        hint = meant(key, known) or _at_home(key)
        return ScenarioError(
            f"{source.where(path)}: unknown key {key!r}{hint}; expected one of {', '.join(sorted(known))}{more}"
        )
    if error["type"] == "missing":
        what = "one more entry is expected" if isinstance(path[-1], int) else f"the key {path[-1]!r} is missing"
        return ScenarioError(f"{source.where(path)}: {what}{more}")
    return ScenarioError(f"{source.error(path, problem(error))}{more}")


def _causes(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out that a list is too short when that is so because of an error inside it."""
    places = [error["loc"] for error in errors]
    return [
        error
        for error in errors
        if not any(len(place) > len(error["loc"]) and place[: len(error["loc"])] == error["loc"] for place in places)
    ]


def problem(error: ErrorDetails) -> str:
    """Say what pydantic found wrong with a value, in words of a YAML file."""
    message = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    match error["type"]:
        case "literal_error":
            choices = [choice.strip("' ") for choice in str(error["ctx"]["expected"]).replace(" or ", ", ").split(",")]
            one = "one of " if len(choices) > 1 else ""
            return f"expected {one}{', '.join(choices)}{meant(str(error['input']), choices)}"
        case "string_pattern_mismatch":
            return "expected letters, digits, - and _ only"
        case kind if kind in IN_WORDS:
            return f"expected {IN_WORDS[kind]}"
    message = message[0].lower() + message[1:]
    return "expected" + message.removeprefix("input should be") if message.startswith("input should be") else message


def _keys_at(path: KeyPath) -> list[str]:
    """Return the keys that the schema knows at a place."""
    block: type[BaseModel] = Scenario
    for part in path:
        if isinstance(part, str) and part in block.model_fields:
            block = block_in(block.model_fields[part].annotation) or block
    return list(block.model_fields)


def _at_home(key: str) -> str:
    """Say where a key that is known elsewhere belongs."""
    homes = [home.rpartition(".")[0] for home in _homes(Scenario, "") if home.rpartition(".")[2] == key]
    return f" (it belongs in {' or '.join(home or 'the top level' for home in homes)})" if homes else ""


def _homes(block: type[BaseModel], above: str) -> Iterator[str]:
    for name, about in block.model_fields.items():
        yield f"{above}{name}"
        if inner := block_in(about.annotation):
            yield from _homes(inner, f"{above}{name}.")


def block_in(annotation: Any) -> type[Block] | None:
    """Return the block that a field holds, None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return annotation
    for argument in get_args(annotation):
        if found := block_in(argument):
            return found
    return None
