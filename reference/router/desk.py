"""A desk carries out what one model's policy pool decides, on asyncio: who waits, who goes where, who is told what.

The pool decides synchronously when something happens; the desk then acts. Its clock and its way of forwarding are
handed to it, so that a test can run it on virtual time against engines in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from reference.policy.pool import Action, Dispatch, Fail, Outcome, Pool, Refuse
from reference.policy.view import Observation, RequestView

Now = Callable[[], float]
Forward = Callable[[Dispatch], Awaitable[Outcome]]
"""Does one attempt: sends the request to the endpoint and passes the answer on. Calls `Desk.first_token` on the way."""


class DecisionLog(Protocol):
    """Where decisions are written as they are made."""

    def __call__(self, now: float, action: Action) -> None:
        """Take one decision."""


class Desk:
    """The shell around one pool. `serve` lives as long as a request does."""

    def __init__(self, pool: Pool, now: Now, log: DecisionLog | None = None) -> None:
        self.pool = pool
        self._now = now
        self._log = log
        self._verdicts: dict[str, asyncio.Future[Action]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._expires_at: float | None = None
        self._loop = asyncio.get_running_loop()

    async def serve(self, request: RequestView, forward: Forward) -> Dispatch | Refuse | Fail:
        """See a request through: wait for its turn, forward it, retry it as the pool says; return how it ended.

        A `Dispatch` is the attempt that answered. Cancelling this is the client leaving: the pool is told at once.
        """
        verdict = self._expect(request.request_id)
        try:
            self._carry_out(self.pool.submit(request, self._now()))
            while True:
                action = await verdict
                if not isinstance(action, Dispatch):
                    return action
                verdict = self._expect(request.request_id)
                outcome = await forward(action)
                self._carry_out(self.pool.finished(request.request_id, outcome, self._now()))
                if outcome not in (Outcome.FAILED, Outcome.REFUSED):
                    return action
        except asyncio.CancelledError:
            self._carry_out(self.pool.cancel(request.request_id, self._now()))
            raise
        finally:
            self._verdicts.pop(request.request_id, None)

    def first_token(self, request_id: str) -> None:
        """Note that the client has seen a first token."""
        self.pool.first_token(request_id, self._now())

    def add_endpoint(self, name: str, weight: float = 1.0, version: str = "") -> None:
        """Take an endpoint in."""
        self._carry_out(self.pool.add_endpoint(name, self._now(), weight, version))

    def remove_endpoint(self, name: str) -> None:
        """Let an endpoint go."""
        self._carry_out(self.pool.remove_endpoint(name, self._now()))

    def drain(self, name: str) -> None:
        """Send nothing more to an endpoint."""
        self._carry_out(self.pool.drain(name, self._now()))

    def observe(self, name: str, observation: Observation) -> None:
        """Take what a scrape reported."""
        self._carry_out(self.pool.observe(name, observation, self._now()))

    def _expect(self, request_id: str) -> asyncio.Future[Action]:
        verdict: asyncio.Future[Action] = self._loop.create_future()
        self._verdicts[request_id] = verdict
        return verdict

    def _carry_out(self, actions: list[Action]) -> None:
        """Tell each request what was decided about it, in the order of the decisions."""
        now = self._now()
        for action in actions:
            if self._log is not None:
                self._log(now, action)
            verdict = self._verdicts.get(action.request.request_id)
            if verdict is not None and not verdict.done():
                verdict.set_result(action)
        self._set_timer(now)

    def _set_timer(self, now: float) -> None:
        deadline = self.pool.next_deadline()
        if deadline == self._expires_at:
            return
        self._expires_at = deadline
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            delay = max(0.0, deadline - now)
            self._timer = self._loop.call_later(delay, self._expire)

    def _expire(self) -> None:
        self._timer = self._expires_at = None
        self._carry_out(self.pool.expire(self._now()))
