"""The queue of a pool: the most important first, then the tenant with the least in flight, then the first come."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from reference.policy.view import RequestView


class PoolQueue:
    """Requests that wait for an endpoint. A request leaves by `pop` or `remove`, once, wherever it stands."""

    def __init__(self) -> None:
        self._lanes: dict[int, dict[str, OrderedDict[str, RequestView]]] = {}
        """Priority → tenant → request id → request, in order. Leaving costs the same at any place."""
        self._waiting: dict[str, RequestView] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._waiting

    def push(self, request: RequestView, *, first: bool = False) -> None:
        """Let a request wait; `first` puts it before its equals (a retry has waited already)."""
        lane = self._lanes.setdefault(request.priority, {}).setdefault(request.tenant, OrderedDict())
        lane[request.request_id] = request
        if first:
            lane.move_to_end(request.request_id, last=False)
        self._waiting[request.request_id] = request

    def pop(self, in_flight_of: Mapping[str, int]) -> RequestView:
        """Take the next request out; among equals in priority the tenant with the fewest in flight goes first."""
        tenants = self._lanes[max(self._lanes)]
        if len(tenants) == 1:
            request = next(iter(next(iter(tenants.values())).values()))
        else:
            heads = [next(iter(lane.values())) for lane in tenants.values()]
            request = min(heads, key=lambda head: (in_flight_of.get(head.tenant, 0), head.arrived_at, head.tenant))
        self.remove(request.request_id)
        return request

    def least_important(self) -> RequestView:
        """Return the request that would be shed first: lowest priority, longest lane, last come."""
        tenants = self._lanes[min(self._lanes)]
        tenant = max(tenants, key=lambda name: (len(tenants[name]), name))
        return next(reversed(tenants[tenant].values()))

    def remove(self, request_id: str) -> RequestView | None:
        """Take a request out wherever it stands; None when it does not wait here."""
        request = self._waiting.pop(request_id, None)
        if request is None:
            return None
        tenants = self._lanes[request.priority]
        lane = tenants[request.tenant]
        del lane[request_id]
        if not lane:
            del tenants[request.tenant]
            if not tenants:
                del self._lanes[request.priority]
        return request
