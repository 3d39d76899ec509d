"""The queue of a pool: the most important first, then the tenant with the least in flight, then the first come."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from reference.policy.view import RequestView


class PoolQueue:
    """Requests that wait for an endpoint. A request leaves by `pop`, `shed` or `remove`, once."""

    def __init__(self) -> None:
        self._lanes: dict[int, dict[str, deque[RequestView]]] = {}
        self._waiting: dict[str, RequestView] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._waiting

    def push(self, request: RequestView, *, first: bool = False) -> None:
        """Let a request wait; `first` puts it before its equals (a retry has waited already)."""
        lane = self._lanes.setdefault(request.priority, {}).setdefault(request.tenant, deque())
        (lane.appendleft if first else lane.append)(request)
        self._waiting[request.request_id] = request

    def pop(self, in_flight_of: Mapping[str, int]) -> RequestView:
        """Take the next request out; among equals in priority the tenant with the fewest in flight goes first."""
        tenants = self._lanes[max(self._lanes)]
        tenant = min(tenants, key=lambda name: (in_flight_of.get(name, 0), tenants[name][0].arrived_at, name))
        request = tenants[tenant][0]
        self.remove(request.request_id)
        return request

    def least_important(self) -> RequestView:
        """Return the request that would be shed first: lowest priority, longest lane, last come."""
        tenants = self._lanes[min(self._lanes)]
        tenant = max(tenants, key=lambda name: (len(tenants[name]), name))
        return tenants[tenant][-1]

    def remove(self, request_id: str) -> RequestView | None:
        """Take a request out wherever it stands; None when it does not wait here."""
        request = self._waiting.pop(request_id, None)
        if request is None:
            return None
        tenants = self._lanes[request.priority]
        lane = tenants[request.tenant]
        if lane[0] is request:
            lane.popleft()
        else:
            lane.remove(request)
        if not lane:
            del tenants[request.tenant]
            if not tenants:
                del self._lanes[request.priority]
        return request
