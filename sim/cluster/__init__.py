"""The serving cluster in simulated time: clients, hops, gateway, router, replicas, nodes, faults, cold starts.

One part a file; `flight` puts them together. Decisions are not made here: they come from `reference.policy`.
"""

from sim.cluster.flight import fly

__all__ = ["fly"]
