"""The settings of a server: from a JSON file, the environment over it, and flags over both."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo


class ServerSettings(BaseModel):
    """What every server is told. Subclasses add their own; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = 8000
    """The port to listen on."""
    drain_seconds: float = 0.0
    """How long after SIGTERM requests are still taken while `/readyz` says 503: until load balancers have heard."""
    shutdown_seconds: float = 30.0
    """How long requests under way may take after SIGTERM."""


Settings = TypeVar("Settings", bound=ServerSettings)


class SettingsError(ValueError):
    """Settings that cannot be used; the message says where the value stands, what it is, and what was expected."""


def read_settings(kind: type[Settings], program: str) -> Settings:
    """Read the settings of the server that this process is to be; exit with code 2 and one line when they are wrong."""
    prefix = f"WINDTUNNEL_{program.upper().replace('-', '_')}_"
    parser = argparse.ArgumentParser(
        program,
        description=kind.__doc__,
        epilog=_table(kind, prefix),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, default=os.environ.get(f"{prefix}CONFIG"), help="settings, as JSON")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    chosen = vars(parser.parse_args())
    path = chosen.pop("config")
    flags = {name: value for name, value in chosen.items() if value is not None}
    try:
        return settings_from(kind, path and Path(path), os.environ, prefix, flags)
    except SettingsError as error:
        parser.error(str(error))


def settings_from(
    kind: type[Settings], path: Path | None, environment: Mapping[str, str], prefix: str, flags: Mapping[str, Any]
) -> Settings:
    """Put settings together.

    Raises:
        SettingsError: the file cannot be read, or a value is wrong.
    """
    given = _from_file(path) if path else {}
    named = {f"{prefix}{name.upper()}": name for name in kind.model_fields}
    found = {name: environment[variable] for variable, name in named.items() if variable in environment}
    given |= {name: _parsed(kind, name, text) for name, text in found.items()}
    given |= flags
    try:
        return kind.model_validate(given)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        where = f"{prefix}{name.upper()}" if name in found else str(path or "settings")
        raise SettingsError(f"{where}: {_place(first['loc'])}: {first['msg']}{_shown(first)}") from invalid


def _from_file(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{path}: is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise SettingsError(f"{path}: holds a JSON {type(found).__name__}; expected an object")
    return found


def _parsed(kind: type[ServerSettings], name: str, text: str) -> Any:
    """Read a variable: text where text is wanted, else JSON."""
    if kind.model_fields[name].annotation is str:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _place(location: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in location)


def _shown(problem: Mapping[str, Any]) -> str:
    value = problem["input"]
    return "" if isinstance(value, dict | list) or problem["type"] == "missing" else f" (got {value!r})"


def _table(kind: type[ServerSettings], prefix: str) -> str:
    rows = ["settings, by their key in the file, or in the environment by the name after it (blocks as JSON):"]
    for name, field in kind.model_fields.items():
        rows.append(f"  {name:28} {prefix}{name.upper()}\n{'':31}{_told(field)}")
        rows += _rows_inside(field.annotation, name)
    return "\n".join(rows)


def _rows_inside(annotation: Any, place: str) -> list[str]:
    """Return a row for each field of the blocks that a setting is made of, `pools[].dns[].host` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        rows = []
        for name, field in annotation.model_fields.items():
            rows.append(f"  {place}.{name}\n{'':31}{_told(field)}")
            rows += _rows_inside(field.annotation, f"{place}.{name}")
        return rows
    brackets = {tuple: "[]", list: "[]", dict: "{}"}.get(get_origin(annotation), "")
    return [row for inner in get_args(annotation) for row in _rows_inside(inner, place + brackets)]


def _told(field: FieldInfo) -> str:
    default = "required" if field.is_required() else f"default {field.default!r}"
    if field.default_factory is not None:
        default = "default as below" if _rows_inside(field.annotation, "") else "default from the environment"
    about = " ".join((field.description or "").split())
    return f"{default}.{'  ' + about if about else ''}"
