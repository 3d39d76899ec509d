"""The queue of a pool: the most important first, then whichever tenant fairness says, then the first come.

Three kinds of fairness, the same in the deployed router and in the simulated one:

in_flight   the tenant with the fewest requests in flight; cheap, and blind to how long requests are
tokens      start-time fair queueing over the tokens that requests declare (`fair_share`), by the tenants' weights;
            a full queue sheds the last request of the tenant that holds most of it
none        as they came: what a greedy tenant does to the others when nobody stops it
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Literal

from reference.policy.fair_share import FairShare
from reference.policy.view import RequestView

Fairness = Literal["in_flight", "tokens", "none"]


class PoolQueue:
    """Requests that wait for an endpoint. A request leaves by `pop` or `remove`, once, wherever it stands."""

    def __init__(self, fairness: Fairness = "in_flight", weights: Mapping[str, float] | None = None) -> None:
        self._fairness = fairness
        self._weights = dict(weights or {})
        self._lanes: dict[int, dict[str, OrderedDict[str, RequestView]]] = {}
        """Priority → tenant → request id → request, in order. Leaving costs the same at any place."""
        self._shares: dict[int, FairShare] = {}
        """Of `tokens`: what each tenant has had of a priority, for as long as somebody of that priority waits."""
        self.waiting: dict[str, RequestView] = {}
        """By id, to be read only."""

    def __len__(self) -> int:
        return len(self.waiting)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self.waiting

    def push(self, request: RequestView, *, first: bool = False) -> None:
        """Let a request wait; `first` puts it before its equals (a retry has waited already)."""
        tenants = self._lanes.setdefault(request.priority, {})
        lane = tenants.get(request.tenant)
        if lane is None:
            lane = tenants[request.tenant] = OrderedDict()
            if self._fairness == "tokens":
                self._shares.setdefault(request.priority, FairShare(self._weights)).join(request.tenant)
        lane[request.request_id] = request
        if first:
            lane.move_to_end(request.request_id, last=False)
        self.waiting[request.request_id] = request

    def pop(self, in_flight_of: Mapping[str, int]) -> RequestView:
        """Take the next request out: of those of the highest priority, the first of the tenant whose turn it is."""
        priority = max(self._lanes)
        tenants = self._lanes[priority]
        if len(tenants) == 1:
            request = next(iter(next(iter(tenants.values())).values()))
        else:
            request = self._choose(priority, [next(iter(lane.values())) for lane in tenants.values()], in_flight_of)
        if self._fairness == "tokens":
            self._shares[priority].serve(request.tenant, declared_tokens(request))
        self.remove(request.request_id)
        return request

    def victim(self, request: RequestView) -> RequestView | None:
        """Return who has to go from a full queue for a request to come in; None when nobody has.

        The least important has to. Among equals nobody has, unless tokens are shared fairly: then the tenant that
        would still hold as much as this one gives up its last come. So who holds no more than its part of the queue
        is never refused by it.
        """
        if not self.waiting:
            return None
        least = self.least_important()
        if least.priority != request.priority:
            return least if least.priority < request.priority else None
        if self._fairness != "tokens":
            return None
        tenants = self._lanes[least.priority]
        num_of_its_own = len(tenants.get(request.tenant, ()))
        return least if len(tenants[least.tenant]) > num_of_its_own + 1 else None

    def least_important(self) -> RequestView:
        """Return the request that would be shed first: lowest priority, longest lane, last come."""
        tenants = self._lanes[min(self._lanes)]
        tenant = max(tenants, key=lambda name: (len(tenants[name]), name))
        return next(reversed(tenants[tenant].values()))

    def remove(self, request_id: str) -> RequestView | None:
        """Take a request out wherever it stands; None when it does not wait here."""
        request = self.waiting.pop(request_id, None)
        if request is None:
            return None
        tenants = self._lanes[request.priority]
        lane = tenants[request.tenant]
        del lane[request_id]
        if not lane:
            del tenants[request.tenant]
            if not tenants:
                del self._lanes[request.priority]
                self._shares.pop(request.priority, None)
        return request

    def _choose(self, priority: int, heads: list[RequestView], in_flight_of: Mapping[str, int]) -> RequestView:
        if self._fairness == "in_flight":
            return min(heads, key=lambda head: (in_flight_of.get(head.tenant, 0), head.arrived_at, head.tenant))
        if self._fairness == "tokens":
            start_of = self._shares[priority].start
            return min(heads, key=lambda head: (start_of(head.tenant), head.arrived_at, head.tenant))
        return min(heads, key=lambda head: (head.arrived_at, head.tenant))


def declared_tokens(request: RequestView) -> int:
    """Return what a request may cost at most, as far as its client has said so; at least 1."""
    return max(1, request.input_tokens + (request.max_output_tokens or 0))
