"""Whether and when clients send a request again: one decision, for the simulator's clients and for the load generator.

Knows nothing of clocks and queues; chance comes as an argument. One object stands for all clients of a class, so that
a budget is theirs together, as it is a service's that calls this one.
"""

from __future__ import annotations

from collections.abc import Callable

from reference.policy.retry import RetryBudget
from sim.experiment.schema import ClientRetry, Scenario

RETRIED_CLIENT_ERRORS = (408, 429)
"""Of the statuses 400 to 499 those that say `not now`, and not `never`."""


def rules_of(scenario: Scenario) -> dict[str, ClientRetry]:
    """Give the rules of the classes whose clients send again, by name of the class."""
    return {kind.name: kind.retry for kind in scenario.workload.classes if kind.retry is not None}


class Resending:
    """The clients of one class. `count` each first send; ask `delay` about each send that brought no token."""

    def __init__(self, rule: ClientRetry, chance: Callable[[], float]) -> None:
        self._rule = rule
        self._chance = chance
        self._budget = None if rule.budget is None else RetryBudget(rule.budget, 0.0)
        self.num_given_up = 0
        """Requests whose last send was lost, and that nobody sent again."""

    def count(self) -> None:
        """A request is sent for the first time."""
        if self._budget is not None:
            self._budget.deposit()

    def delay(
        self, num_sends: int, status: str, http_status: int, now: float, told: float | None = None
    ) -> float | None:
        """Return the seconds from now to the next send of a request that was sent `num_sends` times; None: no more.

        `status` and `http_status` say how the last send ended, as in a run record; `told` are the seconds that its
        Retry-After said.
        """
        rule = self._rule
        is_wrong = 400 <= http_status < 500 and http_status not in RETRIED_CLIENT_ERRORS
        if status not in rule.after or is_wrong or num_sends >= rule.max_sends or not self._affords(now):
            self.num_given_up += 1
            return None
        if rule.heeds_retry_after and told is not None and 0 < told <= rule.max_backoff:
            return told
        backoff = min(rule.max_backoff, rule.backoff * rule.multiplier ** (num_sends - 1))
        return backoff * (1.0 - rule.jitter * self._chance()) if rule.jitter and backoff else backoff

    def _affords(self, now: float) -> bool:
        return self._budget is None or self._budget.withdraw(now)
