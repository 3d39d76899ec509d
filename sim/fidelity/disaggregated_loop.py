"""Prefill and decode on replicas of their own under closed loop: each client sends again when its answer has ended.

The flow is that of the simulated cluster's handover: a prompt goes to the prefill rank with the fewest, its KV over
that rank's link to the decode rank with the fewest, and the first token is seen after the decode rank's first step.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

import numpy as np

from reference.engine import FINISHED, FIRST_TOKEN, Engine, EngineSettings, Sequence, StepCost
from reference.engine.sequence import handed_over
from sim.fidelity.closed_loop import ClosedLoopError, Loop, Times


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """The schedulers of one side, all alike."""

    count: int
    settings: EngineSettings
    cost: StepCost


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What KV travels over. Seconds per token of a prompt hold a prefill rank's link; the latency comes after."""

    seconds_per_token: float
    latency: float


def fly_disaggregated(prefill: Ranks, decode: Ranks, transfer: Transfer, loop: Loop) -> Times:
    """Fly the loop to its end.

    Raises:
        ClosedLoopError: an engine refuses a request.
    """
    return _Flight(prefill, decode, transfer, loop).run()


class _Flight:
    def __init__(self, prefill: Ranks, decode: Ranks, transfer: Transfer, loop: Loop) -> None:
        self._loop = loop
        self._transfer = transfer
        self._prefill = [_Rank(prefill, computes_prompts=True) for _ in range(prefill.count)]
        self._decode = [_Rank(decode, computes_prompts=False) for _ in range(decode.count)]
        self._agenda: list[tuple[float, int, Any, Any]] = []
        self._serial = 0
        self._next = min(loop.concurrency, len(loop.input_tokens))
        count = len(loop.input_tokens)
        self._sent, self._first, self._ended = (np.full(count, np.nan) for _ in range(3))

    def run(self) -> Times:
        for client in range(self._next):
            self._at(0.0, self._send, client)
        while self._agenda:
            now, _, function, about = heappop(self._agenda)
            function(now, about)
        gaps = np.asarray(self._loop.output_tokens, dtype=float) - 1.0
        spans = self._ended - self._first
        tpot = np.divide(spans, gaps, out=np.full(len(gaps), np.nan), where=gaps > 0)
        return Times(ttft=self._first - self._sent, tpot=tpot, e2e=self._ended - self._sent)

    def _at(self, when: float, function: Any, about: Any) -> None:
        self._serial += 1
        heappush(self._agenda, (when, self._serial, function, about))

    def _send(self, now: float, number: int) -> None:
        self._sent[number] = now
        self._at(now + self._loop.request_seconds, self._compute, number)

    def _compute(self, now: float, number: int) -> None:
        rank = min(self._prefill, key=_load)
        self._submit(now, rank, Sequence(number, self._loop.input_tokens[number], 1, keeps_kv=True))

    def _go_on(self, now: float, moved: tuple[int, _Rank]) -> None:
        number, sender = moved
        sender.engine.release(number, now)
        self._arm(sender)
        loop = self._loop
        sequence = handed_over(number, loop.input_tokens[number], loop.output_tokens[number])
        self._submit(now, min(self._decode, key=_load), sequence)

    def _submit(self, now: float, rank: _Rank, sequence: Sequence) -> None:
        refused = rank.engine.submit(sequence, now)
        if refused is not None:
            raise ClosedLoopError(f"request {sequence.request_id}: {refused.reason}")
        rank.num_in_flight += 1
        self._arm(rank)

    def _arm(self, rank: _Rank) -> None:
        wake = rank.engine.wake_at()
        if wake is not None and wake != rank.wake:
            self._at(wake, self._wake, rank)
        rank.wake = wake

    def _wake(self, now: float, rank: _Rank) -> None:
        if now != rank.wake:
            return
        rank.wake = None
        for event in rank.engine.advance(now):
            number = int(event.request_id)
            if event.kind is FINISHED:
                rank.num_in_flight -= 1
            if rank.computes_prompts:
                if event.kind is FINISHED:
                    self._move(event.at, number, rank)
            elif event.kind is FIRST_TOKEN:
                self._first[number] = event.at
            else:
                self._end(event.at, number)
        self._arm(rank)

    def _move(self, at: float, number: int, sender: _Rank) -> None:
        begin = max(at, sender.link_free_at)
        sender.link_free_at = begin + self._transfer.seconds_per_token * self._loop.input_tokens[number]
        self._at(sender.link_free_at + self._transfer.latency, self._go_on, (number, sender))

    def _end(self, at: float, number: int) -> None:
        self._ended[number] = at
        if self._next < len(self._loop.input_tokens):
            self._at(at, self._send, self._next)
            self._next += 1


class _Rank:
    """One scheduler and its link."""

    __slots__ = ("computes_prompts", "engine", "link_free_at", "num_in_flight", "wake")

    def __init__(self, ranks: Ranks, *, computes_prompts: bool) -> None:
        self.engine = Engine(ranks.settings, ranks.cost)
        self.computes_prompts = computes_prompts
        self.num_in_flight = 0
        self.link_free_at = 0.0
        self.wake: float | None = None


def _load(rank: _Rank) -> int:
    return rank.num_in_flight
