"""The roster of a pool: its endpoints, and which of them may take a request now.

Filters only; which of the candidates it is, is for the routing policy to say. Knows nothing of queues and attempts.
"""

from __future__ import annotations

from heapq import heappop, heappush

from reference.policy.canary import VersionSplit
from reference.policy.ejection import EjectionPolicy, EjectionSettings
from reference.policy.view import Endpoint, Observation


class Roster:
    """The endpoints of one model. An endpoint is available unless it drains or is ejected.

    All ejected is nobody ejected: an endpoint that may fail beats none.
    """

    def __init__(self, ejection: EjectionSettings, max_in_flight: int | None) -> None:
        self.available: list[Endpoint] = []
        """By name. Replaced, never changed in place."""
        self.by_name: dict[str, Endpoint] = {}
        """To be read only, as the other public ones."""
        self._ejection = EjectionPolicy(ejection)
        self._max_in_flight = max_in_flight
        self.is_open = max_in_flight is None
        """Whether whoever is available is a candidate for everybody that has not failed."""
        self._split = VersionSplit()
        self.readmissions: list[tuple[float, str]] = []
        """Heap of (when, name): the ejections that will be over."""
        self._versions: list[tuple[str, float]] = []
        """Version → weight, where there is more than one version to choose from."""

    def __len__(self) -> int:
        return len(self.by_name)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All endpoints, by name."""
        return tuple(self.by_name[name] for name in sorted(self.by_name))

    # Endpoints come and go

    def add(self, name: str, weight: float, version: str) -> None:
        """Take an endpoint in, or its new weight and version; one that drained takes requests again."""
        known = self.by_name.get(name)
        if known is None:
            self.by_name[name] = Endpoint(name, weight, version=version)
        else:
            known.weight, known.version, known.is_draining = weight, version, False
        self._refresh()

    def remove(self, name: str) -> bool:
        """Let an endpoint go; say whether it was here."""
        if self.by_name.pop(name, None) is None:
            return False
        self._ejection.forget(name)
        self._refresh()
        return True

    def drain(self, name: str) -> None:
        """Leave an endpoint out from now on."""
        if name in self.by_name:
            self.by_name[name].is_draining = True
            self._refresh()

    def observe(self, name: str, observation: Observation) -> None:
        """Keep what a scrape reported, if the endpoint is still here."""
        if name in self.by_name:
            self.by_name[name].observed = observation

    # Who may take a request

    def candidates(self, session: str | None, failed_on: tuple[str, ...] = ()) -> list[Endpoint]:
        """Filter: those available that have room, are not where this request has failed, and of one version.

        Where a request has failed is better than nowhere. The version is chosen last, so that a canary that is full or
        has failed leaves its share to the others.
        """
        candidates = self.available
        limit = self._max_in_flight
        if limit is not None:
            candidates = [endpoint for endpoint in candidates if endpoint.in_flight < limit]
        if failed_on:
            candidates = [endpoint for endpoint in candidates if endpoint.name not in failed_on] or candidates
        if self._versions and candidates:
            present = {endpoint.version for endpoint in candidates}
            version = self._split.choose([pair for pair in self._versions if pair[0] in present], session)
            candidates = [endpoint for endpoint in candidates if endpoint.version == version]
        return candidates

    def has_room(self) -> bool:
        """Say whether there is a candidate for anybody."""
        limit = self._max_in_flight
        if limit is None:
            return bool(self.available)
        return any(endpoint.in_flight < limit for endpoint in self.available)

    # Ejection

    def succeeded(self, endpoint: Endpoint) -> None:
        """Note that an endpoint has answered."""
        if self._ejection.health:
            self._ejection.succeeded(endpoint.name)

    def failed(self, endpoint: Endpoint, request_id: str, now: float) -> bool:
        """Note that an endpoint has failed a request; eject it if it has earned that and is not the last."""
        if self.by_name.get(endpoint.name) is not endpoint:
            return False
        has_earned_it = self._ejection.failed(endpoint.name, request_id)
        is_last = not any(other is not endpoint for other in self.available)
        if not has_earned_it or is_last or endpoint.ejected_until is not None:
            return False
        endpoint.ejected_until = self._ejection.eject(endpoint.name, now)
        heappush(self.readmissions, (endpoint.ejected_until, endpoint.name))
        self._refresh()
        return True

    def readmit(self, now: float) -> bool:
        """Take back the endpoints whose ejection is over; say whether there may be any."""
        readmissions = self.readmissions
        if not readmissions or readmissions[0][0] > now:
            return False
        while readmissions and readmissions[0][0] <= now:
            until, name = heappop(readmissions)
            endpoint = self.by_name.get(name)
            if endpoint is not None and endpoint.ejected_until == until:
                endpoint.ejected_until = None
        self._refresh()
        return True

    def next_readmission(self) -> float | None:
        """Return when `readmit` next has something to do, None when nobody is ejected."""
        return self.readmissions[0][0] if self.readmissions else None

    def _refresh(self) -> None:
        taking = [self.by_name[name] for name in sorted(self.by_name) if not self.by_name[name].is_draining]
        self.available = [endpoint for endpoint in taking if endpoint.ejected_until is None] or taking
        weights: dict[str, float] = {}
        for endpoint in self.available:
            weights[endpoint.version] = max(weights.get(endpoint.version, 0.0), endpoint.weight)
        for version in {version for version, _ in self._versions} - weights.keys():
            self._split.forget(version)
        self._versions = sorted(weights.items()) if len(weights) > 1 else []
        self.is_open = self._max_in_flight is None and not self._versions
