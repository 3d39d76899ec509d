"""How many requests per second of CPU the engine alone simulates: `python -m e2e.bench.engine`.

512 input and 128 output tokens, Poisson arrivals, no router, no record. Prints a line per setting; CPU seconds of this
process, best of the rounds, because machines are shared.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence as Rows

from reference.engine import Engine, EngineSettings, Sequence, StepCost

COST = StepCost.linear(base=0.006, per_prefill_token=2e-5, per_sequence=1e-5, per_context_token=5e-8)
INPUT_TOKENS, OUTPUT_TOKENS, BLOCK_SIZE = 512, 128, 16


def arrivals(count: int, rate: float, seed: int = 1) -> list[float]:
    """Draw Poisson arrival times in seconds."""
    chance = random.Random(seed)
    now, times = 0.0, []
    for _ in range(count):
        now += chance.expovariate(rate)
        times.append(now)
    return times


def simulate(times: Rows[float], settings: EngineSettings, shared_blocks: int = 0, output_tokens: int = 128) -> Engine:
    """Fly the arrivals through one engine; with `shared_blocks`, prompts start alike and carry hashes."""
    engine = Engine(settings, COST)
    num_blocks = INPUT_TOKENS // BLOCK_SIZE if shared_blocks else 0
    shared = tuple(range(shared_blocks))
    wake: float | None = None
    num_events = 0
    for index, at in enumerate(times):
        while wake is not None and wake <= at:
            num_events += len(engine.advance(wake))
            wake = engine.wake_at()
        own = tuple(range((index + 1) * 1000, (index + 1) * 1000 + num_blocks - shared_blocks))
        engine.submit(Sequence(index, INPUT_TOKENS, output_tokens, shared + own if shared_blocks else ()), at)
        wake = engine.wake_at()
    while wake is not None:
        num_events += len(engine.advance(wake))
        wake = engine.wake_at()
    if num_events != 2 * len(times):
        raise AssertionError(f"{num_events} events for {len(times)} requests")
    return engine


def main(count: int = 20_000, rounds: int = 3) -> None:
    """Print requests per CPU second: leaping on and off, longer answers, higher rates, shared prefixes, few blocks."""
    rows = [
        ("leaping, 8/s", 8.0, EngineSettings(), 0, 128),
        ("stepping, 8/s", 8.0, EngineSettings(leaping=False), 0, 128),
        ("leaping, 8/s, 1,024 output tokens", 8.0, EngineSettings(num_blocks=50_000), 0, 1024),
        ("leaping, 20/s", 20.0, EngineSettings(), 0, 128),
        ("leaping, 8/s, 24 of 32 prompt blocks shared", 8.0, EngineSettings(), 24, 128),
        ("leaping, 20/s, half the KV blocks it wants", 20.0, EngineSettings(num_blocks=700), 0, 128),
    ]
    print(f"{'':46} {'requests/s':>11} {'steps':>10}")
    for title, rate, settings, shared_blocks, output_tokens in rows:
        times = arrivals(count, rate)
        best = float("inf")
        for _ in range(rounds):
            began = time.process_time()
            engine = simulate(times, settings, shared_blocks, output_tokens)
            best = min(best, time.process_time() - began)
        print(f"{title:46} {count / best:11,.0f} {engine.counters.steps:10,}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
