"""Where replicas stand: which node each one is on, because a node takes all of its replicas with it.

Nodes are numbered `node-0`, `node-1`, ... over all pools in the order of the scenario; a node serves one pool.
"""

from __future__ import annotations


class Nodes:
    """The seats for replicas. A seat freed by scaling down is the first to be taken again."""

    def __init__(self) -> None:
        self._pool_of: list[str] = []
        self._seated: list[set[str]] = []

    def seat(self, replica: str, pool: str, replicas_per_node: int) -> str:
        """Seat a replica on the first node of its pool that has room, or on a new one; return the node's name."""
        for number, seated in enumerate(self._seated):
            if self._pool_of[number] == pool and len(seated) < replicas_per_node:
                seated.add(replica)
                return f"node-{number}"
        self._pool_of.append(pool)
        self._seated.append({replica})
        return f"node-{len(self._seated) - 1}"

    def leave(self, replica: str) -> None:
        """Free a replica's seat."""
        for seated in self._seated:
            seated.discard(replica)

    def replicas_on(self, node: str) -> list[str]:
        """Name the replicas on a node, in order; empty when there is no such node."""
        for number, seated in enumerate(self._seated):
            if node == f"node-{number}":
                return sorted(seated)
        return []

    @property
    def names(self) -> list[str]:
        """All nodes there ever were."""
        return [f"node-{number}" for number in range(len(self._seated))]
