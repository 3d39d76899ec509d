"""Reachability measured on a live cluster: probes from inside pods' network namespaces, canaries, the difference."""
