"""Ejection: an endpoint whose requests fail one after the other is left out for a while, longer each time.

Counts requests, not attempts: a request that fails twice on one endpoint is one failure. The caller never counts
answers 4xx and 429, and never ejects the last endpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_MAX_DOUBLINGS = 64
"""An endpoint may be ejected for weeks on end; a float has no more than 1,023 doublings."""


@dataclass(frozen=True, slots=True)
class EjectionSettings:
    """After `failures` in a row out for `base_seconds`, doubled each time, at most `max_seconds`."""

    failures: int = 3
    base_seconds: float = 5.0
    max_seconds: float = 60.0


@dataclass(slots=True)
class _Health:
    failed: set[str] = field(default_factory=set)
    """Ids of the requests that failed since the last success; no more of them than it takes."""
    num_ejections: int = 0


@dataclass(slots=True)
class EjectionPolicy:
    """Remembers how each endpoint of a pool has fared since it was last well."""

    settings: EjectionSettings
    health: dict[str, _Health] = field(default_factory=dict)
    """Of those that have failed since they last answered."""

    def succeeded(self, endpoint: str) -> None:
        """Forget the failures of an endpoint that answered."""
        if endpoint in self.health:
            del self.health[endpoint]

    def failed(self, endpoint: str, request_id: str) -> bool:
        """Count a failure; say whether the endpoint has earned its ejection."""
        health = self.health.setdefault(endpoint, _Health())
        # once ejected, an endpoint that has answered nothing since is out again at its first failure
        enough = 1 if health.num_ejections else self.settings.failures
        if len(health.failed) < enough:
            health.failed.add(request_id)
        return len(health.failed) >= enough

    def eject(self, endpoint: str, now: float) -> float:
        """Return until when an endpoint is left out; after that one more failure ejects it again."""
        health = self.health.setdefault(endpoint, _Health())
        seconds = min(
            self.settings.max_seconds, self.settings.base_seconds * 2.0 ** min(health.num_ejections, _MAX_DOUBLINGS)
        )
        health.num_ejections += 1
        health.failed.clear()
        return now + seconds

    def forget(self, endpoint: str) -> None:
        """Drop what is known of an endpoint that is gone."""
        self.health.pop(endpoint, None)
