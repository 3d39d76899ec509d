"""The endpoint with the fewest requests in flight: what most policies fall back on.

Apart from them, because policies may be extended by others and this may be compiled.
"""

from __future__ import annotations

from collections.abc import Sequence

from reference.policy.view import Endpoint


def least_in_flight(endpoints: Sequence[Endpoint]) -> Endpoint:
    """Return the endpoint with the fewest requests in flight, the first by name among equals. Never empty."""
    best = endpoints[0]
    fewest = best.in_flight
    if fewest:
        for endpoint in endpoints:
            in_flight = endpoint.in_flight
            if in_flight < fewest:
                best, fewest = endpoint, in_flight
                if not fewest:
                    break
    return best
