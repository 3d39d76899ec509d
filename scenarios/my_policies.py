"""A policy of one's own, as `own_policy.yaml` names it: copy this file, change `route`, fly the scenario.

A policy sees the request as declared and the endpoints as last observed, and returns a decision with its reason. It
imports no clock, no chance and no I/O: `now` and `chance()` are handed to it, so that it decides in the simulator as in
the router. `windtunnel policies --check my_policies.py:StickyByTenant` says whether it keeps to that.
"""

from collections.abc import Sequence

from reference.policy.view import Chance, Decision, Endpoint, RequestView


class StickyByTenant:
    """Keep each tenant on one endpoint, so that its prompts stay cached there; move it when that one is too busy.

    `max_lead`: how many more requests than the least loaded endpoint a tenant's own may have in flight.
    """

    def __init__(self, max_lead: int = 8) -> None:
        self.max_lead = max_lead
        self.home: dict[str, str] = {}

    def route(self, request: RequestView, endpoints: Sequence[Endpoint], now: float, chance: Chance) -> Decision:
        """Take the tenant's endpoint while it is there and not too busy, else the least loaded one, for good."""
        least = min(endpoints, key=lambda endpoint: (endpoint.in_flight, endpoint.name))
        home = next((endpoint for endpoint in endpoints if endpoint.name == self.home.get(request.tenant)), None)
        if home is not None and home.in_flight - least.in_flight <= self.max_lead:
            return Decision(home.name, "the tenant's endpoint")
        self.home[request.tenant] = least.name
        return Decision(least.name, "new endpoint for the tenant")
