"""The retry budget of a pool: retries may be a share of its requests, and a few a second when there are few requests.

Without it, retries multiply the load of exactly the moment in which endpoints fail (the precedent is Finagle's
RetryBudget, also Envoy's and Linkerd's).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf


@dataclass(slots=True)
class RetryBudget:
    """A balance that each request raises by `ratio`, each second by `min_per_second`, and each retry lowers by one.

    Seconds alone raise it to one second's worth at most (one retry, if that is less). It begins there, so that nothing
    depends on where the clock's zero is.
    """

    ratio: float
    min_per_second: float
    max_balance: float = 100.0
    balance: float = 0.0
    updated_at: float = -inf

    def deposit(self) -> None:
        """Count one request."""
        balance = self.balance + self.ratio
        self.balance = balance if balance < self.max_balance else self.max_balance

    def withdraw(self, now: float) -> bool:
        """Take one retry out; say whether there was one."""
        if self.min_per_second and now > self.updated_at:
            ceiling = max(self.balance, min(self.max_balance, max(1.0, self.min_per_second)))
            self.balance = min(ceiling, self.balance + (now - self.updated_at) * self.min_per_second)
            self.updated_at = now
        if self.balance < 1.0:
            return False
        self.balance -= 1.0
        return True


def retry_after(seconds: float) -> int:
    """Give what the Retry-After header says of a wait: whole seconds, rounded up, at least one."""
    return max(1, ceil(seconds))
