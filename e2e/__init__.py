"""The same scenarios on real parts: load generation, rungs, clusters, reachability, and the windtunnel command."""
