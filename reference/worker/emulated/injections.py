"""Faults that end by themselves: each is injected for so long at most, and for so many requests if that is wished.

A request takes its faults when it comes, and keeps them: `Injections.take` hands them out as one `Trouble`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reference.wire.errors import ApiError

Now = Callable[[], float]
Kind = Literal["error", "delay", "drip", "die", "end", "reset", "hang", "wrong_usage", "stall", "slow", "refuse"]
MAX_LASTS_SECONDS = 3600.0


class Injection(BaseModel):
    """One fault, as it is asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: Kind
    """error: answered with `status`. delay: `seconds` before the answer. drip: `seconds` more before each token. die: a
    stream breaks off after `tokens`. end: it ends there without [DONE]. reset: the connection is reset after `tokens`,
    before any byte with 0. hang: nothing comes of a request until the fault is over. wrong_usage: `tokens` more are
    claimed. stall: the engine takes no step. slow: its steps take `factor` times as long. refuse: nobody listens."""
    lasts: Annotated[float, Field(gt=0, le=MAX_LASTS_SECONDS)] = 60.0
    """Seconds, after which it is over in any case."""
    count: Annotated[int, Field(gt=0)] | None = None
    """Requests, after which it is over, too; None: all that come. Not for stall, slow and refuse."""
    seconds: Annotated[float, Field(ge=0, le=MAX_LASTS_SECONDS)] = 1.0
    tokens: Annotated[int, Field(ge=0)] = 3
    status: Annotated[int, Field(ge=400, le=599)] = 500
    retry_after: Annotated[float, Field(gt=0)] | None = None
    factor: Annotated[float, Field(gt=0)] = 3.0


class Trouble:
    """What is wrong with one request."""

    __slots__ = ("delay", "die_after", "drip", "end_after", "error", "extra_usage", "hangs_until", "reset_after")

    def __init__(self) -> None:
        self.error: ApiError | None = None
        self.delay = 0.0
        self.drip = 0.0
        self.die_after: int | None = None
        self.end_after: int | None = None
        self.reset_after: int | None = None
        self.hangs_until = 0.0
        self.extra_usage = 0


NO_TROUBLE = Trouble()


class _Active:
    def __init__(self, injection: Injection, until: float) -> None:
        self.injection = injection
        self.until = until
        self.left = injection.count


class Injections:
    """The faults of one worker that are under way."""

    def __init__(self, now: Now = lambda: asyncio.get_running_loop().time()) -> None:
        self._now = now
        self._active: list[_Active] = []

    def add(self, injection: Injection) -> None:
        """Begin a fault."""
        self._active.append(_Active(injection, self._now() + injection.lasts))

    def clear(self) -> None:
        """End all of them, but for what requests have taken."""
        self._active.clear()

    def under_way(self) -> list[dict[str, Any]]:
        """Return those under way, with what is left of each."""
        self._tidy()
        now = self._now()
        return [
            {"fault": one.injection.fault, "seconds_left": round(one.until - now, 3), "requests_left": one.left}
            for one in self._active
        ]

    def take(self) -> Trouble:
        """Return what is wrong with the request that comes now."""
        if not self._active:
            return NO_TROUBLE
        self._tidy()
        trouble = Trouble()
        for one in self._active:
            if one.left is not None:
                one.left -= 1
            _add(trouble, one.injection, one.until)
        return trouble

    def _tidy(self) -> None:
        now = self._now()
        self._active = [one for one in self._active if one.until > now and one.left != 0]


def read_injection(given: dict[str, Any]) -> Injection:
    """Read a fault that is asked for.

    Raises:
        ApiError: 400, with the field at fault.
    """
    try:
        return Injection.model_validate(given)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ApiError(400, f"{place}: {first['msg']} (got {first['input']!r})", param=place) from invalid


def _add(trouble: Trouble, one: Injection, until: float) -> None:
    match one.fault:
        case "error":
            trouble.error = ApiError(one.status, "an error on demand", retry_after_seconds=one.retry_after)
        case "delay":
            trouble.delay += one.seconds
        case "drip":
            trouble.drip += one.seconds
        case "die":
            trouble.die_after = one.tokens
        case "end":
            trouble.end_after = one.tokens
        case "reset":
            trouble.reset_after = one.tokens
        case "hang":
            trouble.hangs_until = max(trouble.hangs_until, until)
        case "wrong_usage":
            trouble.extra_usage += one.tokens
