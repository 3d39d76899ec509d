"""Units in scenario files: durations in seconds, rates per second. A bare number without a unit is refused."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: object) -> float:
    """Read `500ms`, `1.5s`, `10m`, `1h` as seconds. Zero may stand without a unit; floats pass through from code."""
    if isinstance(text, float) or text == 0:
        return float(text)  # type: ignore[arg-type]
    if isinstance(text, str):
        for unit in ("us", "ms", "s", "m", "h", "d"):
            number = text.removesuffix(unit).strip()
            if text.endswith(unit) and number.replace(".", "", 1).isdigit():
                return float(number) * _SECONDS[unit]
    raise ValueError(f"{text!r} is not a duration; write a number and a unit, such as 500ms, 1.5s, 10m or 1h")


def per_second(text: object) -> float:
    """Read `12/s`, `90/min`, `400/h` as a rate per second."""
    if isinstance(text, float):
        return text
    if isinstance(text, str) and "/" in text:
        number, _, unit = text.partition("/")
        divisor = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}.get(unit.strip())
        if divisor and number.strip().replace(".", "", 1).isdigit():
            return float(number) / divisor
    raise ValueError(f"{text!r} is not a rate; write a number per unit of time, such as 12/s, 90/min or 400/h")


Duration = Annotated[float, BeforeValidator(seconds), Field(ge=0)]
Rate = Annotated[float, BeforeValidator(per_second), Field(ge=0)]
