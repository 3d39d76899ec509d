"""Units in scenario files: durations in seconds, rates per second. A bare number where a unit belongs is refused."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
PER_SECOND = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

_NUMBER = r"(\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)"
_PART = re.compile(rf"{_NUMBER}\s*(us|ms|s|min|m|h|d)")
_DURATION = re.compile(rf"(?:{_NUMBER}\s*(?:us|ms|s|min|m|h|d)\s*)+")
_RATE = re.compile(rf"{_NUMBER}\s*/\s*(s|min|m|h|d)")


def seconds(given: object) -> float:
    """Read `500ms`, `1.5s`, `10m`, `1h30m`, `2d` as seconds; 0 may stand without a unit, floats come from code.

    Raises:
        ValueError: anything else, with what was expected.
    """
    if type(given) is float or (given == 0 and not isinstance(given, bool)):
        return float(given)
    match = _DURATION.fullmatch(given.strip()) if isinstance(given, str) else None
    if match is None:
        hint = f" (did you mean {given}s?)" if isinstance(given, int) and not isinstance(given, bool) else ""
        raise ValueError(f"expected a duration with its unit, such as 500ms, 1.5s, 10m or 1h{hint}")
    return sum(float(number) * SECONDS[unit] for number, unit in _PART.findall(match[0]))


def written(duration: float) -> str:
    """Write seconds as a scenario would, exactly enough to be read back: `1h30m`, `58m22s`, `2.5s`, `80ms`, `0s`."""
    if duration < 1 or duration > 1e9:
        return f"{duration * 1e3:.12g}ms" if 0 < duration < 1 else f"{duration:.15g}s"
    parts, rest = [], duration
    for unit in ("d", "h", "m"):
        whole, rest = divmod(rest, SECONDS[unit])
        parts += [f"{whole:.0f}{unit}"] if whole else []
    return "".join(parts) + (f"{rest:.12g}s" if rest or not parts else "")


def per_second(given: object) -> float:
    """Read `12/s`, `90/min`, `400/h` as a rate per second; floats come from code.

    Raises:
        ValueError: anything else, with what was expected.
    """
    if type(given) is float:
        return given
    match = _RATE.fullmatch(given.strip()) if isinstance(given, str) else None
    if match is None:
        hint = f" (did you mean {given}/s?)" if isinstance(given, int) and not isinstance(given, bool) else ""
        raise ValueError(f"expected a rate, a number per unit of time, such as 12/s, 90/min or 400/h{hint}")
    return float(match[1]) / PER_SECOND[match[2]]


DURATION_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string", "pattern": rf"^\s*{_DURATION.pattern}\s*$"}, {"const": 0}],
    "examples": ["500ms", "1.5s", "10m"],
}
"""JSON Schema of a duration, for editors."""

_RATE_SCHEMA = {"type": "string", "pattern": rf"^\s*{_RATE.pattern}\s*$", "examples": ["12/s", "90/min"]}

Duration = Annotated[float, BeforeValidator(seconds), Field(ge=0), WithJsonSchema(DURATION_SCHEMA)]
"""Seconds in code; a number with its unit in the file."""

Rate = Annotated[float, BeforeValidator(per_second), Field(ge=0), WithJsonSchema(_RATE_SCHEMA)]
"""Per second in code; a number per unit of time in the file."""
