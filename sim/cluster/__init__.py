"""The serving cluster in simulated time: clients, hops, gateway, router, replicas, nodes, faults, cold starts."""
