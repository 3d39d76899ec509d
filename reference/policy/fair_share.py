"""What each tenant has had of a scarce thing, in virtual time: start-time fair queueing.

A tenant's next request starts, in virtual time, where its last one ended, or now if that is later; whoever starts
first is served, and ends `tokens / weight` after its start. Virtual time is the start of whoever was served last. So a
tenant that has been away claims nothing for it, and over any time in which two tenants both wait, what they get by
their weights differs by no more than one request of each (Goyal, Vin and Cheng 1996; for tokens of language models the
Virtual Token Counter of Sheng et al. 2024 is the same idea).
"""

from __future__ import annotations

from collections.abc import Mapping


class FairShare:
    """The accounts of one busy period: made when somebody begins to wait, thrown away when nobody does."""

    __slots__ = ("_ends", "_weights", "now")

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.now = 0.0
        """Virtual time: tokens per weight."""
        self._weights = weights
        self._ends: dict[str, float] = {}

    def join(self, tenant: str) -> None:
        """Let a tenant begin to wait, with no claim to what it missed."""
        self._ends[tenant] = max(self.now, self._ends.get(tenant, 0.0))

    def start(self, tenant: str) -> float:
        """Return when, in virtual time, the next request of a tenant that waits would start."""
        return self._ends[tenant]

    def serve(self, tenant: str, tokens: int) -> None:
        """Charge a tenant for a request of so many tokens."""
        self.now = self._ends[tenant]
        self._ends[tenant] = self.now + tokens / self._weights.get(tenant, 1.0)
