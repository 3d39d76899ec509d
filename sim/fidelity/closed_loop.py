"""One replica under closed loop: so many clients, each of which sends its next request when its last one has ended.

This is how benchmarks of engines are run, and so how most published figures came about. The engine is the one that the
simulated cluster and the emulated worker run; only the clients are simpler here.
"""

from __future__ import annotations

from collections.abc import Sequence as Series
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from reference.engine import FINISHED, FIRST_TOKEN, Engine, EngineSettings, Sequence, StepCost
from reference.engine.timeline import Span


class ClosedLoopError(ValueError):
    """The engine refused a request, so the loop as described cannot have been measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """What the clients do. Lengths are those of the requests in the order in which they are sent."""

    concurrency: int
    input_tokens: tuple[int, ...]
    output_tokens: tuple[int, ...]
    request_seconds: float = 0.0
    """Between a client's sending and the engine's queue, and between the engine's last token and the client's next
    request together: parsing, tokenising and the network. It counts towards TTFT."""

    @classmethod
    def random(cls, concurrency: int, lengths: tuple[int, int], shortest: float, per_client: int, seed: int) -> Loop:
        """Draw lengths between `shortest` times the nominal (input, output) and the nominal, evenly."""
        chance = np.random.default_rng(seed)
        count = concurrency * per_client
        drawn = [chance.integers(max(1, int(nominal * shortest)), nominal + 1, count) for nominal in lengths]
        return cls(
            concurrency=concurrency,
            input_tokens=tuple(int(tokens) for tokens in drawn[0]),
            output_tokens=tuple(int(tokens) for tokens in drawn[1]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """What the clients saw, in seconds, a value a request in the order of sending."""

    ttft: np.ndarray
    tpot: np.ndarray
    """NaN for an answer of one token."""
    e2e: np.ndarray

    @property
    def mean_ttft(self) -> float:
        """Seconds."""
        return float(self.ttft.mean())

    @property
    def mean_tpot(self) -> float:
        """Seconds; NaN when no answer had two tokens."""
        return float(np.nanmean(self.tpot)) if np.isfinite(self.tpot).any() else float("nan")


def fly(settings: EngineSettings, cost: StepCost, loop: Loop) -> Times:
    """Fly the loop to its end.

    Raises:
        ClosedLoopError: the engine refuses a request.
    """
    arrivals = [(0.0, client) for client in range(min(loop.concurrency, len(loop.input_tokens)))]
    return _drive(Engine(settings, cost), arrivals, loop.input_tokens, loop.output_tokens, loop.request_seconds, True)


def fly_arrivals(
    settings: EngineSettings,
    cost: StepCost,
    arrivals: Series[float],
    input_tokens: Series[int],
    output_tokens: Series[int],
    request_seconds: float = 0.0,
    spans: list[Span] | None = None,
) -> Times:
    """Fly requests at their recorded times (seconds, ascending) instead; `spans` is given every step.

    Raises:
        ClosedLoopError: the engine refuses a request.
    """
    engine = Engine(settings, cost)
    engine.spans = spans
    queue = [(at, number) for number, at in enumerate(arrivals)]
    return _drive(engine, queue, input_tokens, output_tokens, request_seconds, False)


def _drive(
    engine: Engine,
    queue: list[tuple[float, int]],
    input_tokens: Series[int],
    output_tokens: Series[int],
    request_seconds: float,
    is_closed: bool,
) -> Times:
    count = len(input_tokens)
    sent, first, ended = np.full(count, np.nan), np.full(count, np.nan), np.full(count, np.nan)
    following = len(queue)
    while True:
        wake = engine.wake_at()
        if queue and (wake is None or queue[0][0] + request_seconds <= wake):
            at, number = heappop(queue)
            sent[number] = at
            sequence = Sequence(number, input_tokens[number], output_tokens[number])
            refused = engine.submit(sequence, at + request_seconds)
            if refused is not None:
                raise ClosedLoopError(f"request {number}: {refused.reason}")
            continue
        if wake is None:
            break
        for event in engine.advance(wake):
            number = int(event.request_id)
            if event.kind is FIRST_TOKEN:
                first[number] = event.at
            elif event.kind is FINISHED:
                ended[number] = event.at
                if is_closed and following < count:
                    heappush(queue, (event.at, following))
                    following += 1
    gaps = np.asarray(output_tokens, dtype=float) - 1.0
    tpot = np.divide(ended - first, gaps, out=np.full(count, np.nan), where=gaps > 0)
    return Times(ttft=first - sent, tpot=tpot, e2e=ended - sent)
