"""A small value that a JSON schema allows: what the emulated model says when it is asked for JSON or for a call."""

from __future__ import annotations

from typing import Any

_MAX_DEPTH = 6
_MAX_ITEMS = 3


def instance_of(schema: Any, words: str, root: Any = None, depth: int = 0) -> Any:
    """Return a value of a schema; texts are `words`. Keywords that narrow values further are not looked at.

    Takes anything for a schema: one that makes no sense gives an empty object.
    """
    root = schema if root is None else root
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return {}
    if "const" in schema:
        return schema["const"]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    for keyword in ("anyOf", "oneOf", "allOf"):
        options = schema.get(keyword)
        if isinstance(options, list) and options:
            return instance_of(options[0], words, root, depth + 1)
    if isinstance(schema.get("$ref"), str):
        return instance_of(_resolved(root, schema["$ref"]), words, root, depth + 1)
    return _of_type(schema, words, root, depth)


def _of_type(schema: dict[str, Any], words: str, root: Any, depth: int) -> Any:
    kind = schema.get("type", "object")
    match kind[0] if isinstance(kind, list) and kind else kind:
        case "string":
            return words
        case "integer" | "number":
            return schema["minimum"] if isinstance(schema.get("minimum"), int | float) else 1
        case "boolean":
            return True
        case "null":
            return None
        case "array":
            least = schema.get("minItems")
            count = min(_MAX_ITEMS, max(1, least)) if isinstance(least, int) else 1
            return [instance_of(schema.get("items"), words, root, depth + 1) for _ in range(count)]
    fields = schema.get("properties")
    if not isinstance(fields, dict):
        return {}
    return {name: instance_of(field, words, root, depth + 1) for name, field in fields.items()}


def _resolved(root: Any, reference: str) -> Any:
    """Follow a reference inside the same schema, such as `#/$defs/name`."""
    for part in reference.removeprefix("#/").split("/"):
        root = root.get(part) if isinstance(root, dict) else None
    return root
