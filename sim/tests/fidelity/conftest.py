"""An engine of a known cost, flown and written down in the formats that `sim.fidelity.recordings` reads."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from collections.abc import Sequence as Series
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from reference.engine import Engine, EngineSettings, Sequence, StepCost
from sim.fidelity.closed_loop import Times, fly_arrivals

SETTINGS = EngineSettings(max_num_seqs=64, max_num_batched_tokens=2048, max_model_len=8192, num_blocks=8000)
REQUEST_SECONDS = 0.004
LOG_SECONDS = 10.0


@pytest.fixture(scope="session")
def recorded() -> ModuleType:
    """This module: a test cannot import it, because tests are no package."""
    return sys.modules[__name__]


@dataclass(frozen=True)
class Traffic:
    """Requests: instants in seconds and lengths in tokens."""

    sent: list[float]
    inputs: list[int]
    outputs: list[int]


def traffic(count: int, gap: float, seed: int = 1, longest: int = 3000) -> Traffic:
    chance = np.random.default_rng(seed)
    return Traffic(
        np.cumsum(chance.exponential(gap, count)).tolist(),
        chance.integers(20, longest, count).tolist(),
        chance.integers(2, 120, count).tolist(),
    )


def seen(cost: StepCost, given: Traffic) -> Times:
    return fly_arrivals(SETTINGS, cost, given.sent, given.inputs, given.outputs, REQUEST_SECONDS)


def vllm_bench(cost: StepCost, given: Traffic, path: Path) -> None:
    times = seen(cost, given)
    gaps = [[float(tpot)] * (count - 1) for tpot, count in zip(times.tpot, given.outputs, strict=True)]
    result = {
        "model_id": "tiny",
        "request_throughput": 1.0,
        "input_lens": given.inputs,
        "output_lens": given.outputs,
        "start_times": [4711.5 + at for at in given.sent],
        "ttfts": times.ttft.tolist(),
        "itls": gaps,
        "generated_texts": ["words"] * len(given.sent),
        "errors": [""] * len(given.sent),
    }
    path.write_text(json.dumps(result))


def aiperf(cost: StepCost, given: Traffic, path: Path) -> None:
    times = seen(cost, given)
    with path.open("w") as file:
        for at, tokens, count, ttft, e2e in zip(
            given.sent, given.inputs, given.outputs, times.ttft, times.e2e, strict=True
        ):
            metrics = {
                "input_sequence_length": {"value": tokens, "unit": "tokens"},
                "output_sequence_length": {"value": count, "unit": "tokens"},
                "time_to_first_token": {"value": float(ttft) * 1000, "unit": "ms"},
                "request_latency": {"value": float(e2e) * 1000, "unit": "ms"},
            }
            metadata = {"request_start_ns": 1_759_813_207_000_000_000 + round(at * 1e9), "was_cancelled": False}
            record = {"metadata": metadata | {"benchmark_phase": "profiling"}, "metrics": metrics, "error": None}
            file.write(json.dumps(record) + "\n")


def csv_table(cost: StepCost, given: Traffic, path: Path) -> None:
    times = seen(cost, given)
    lines = ["arrival,input_tokens,output_tokens,ttft_seconds,tpot_seconds"]
    lines += [
        f"{at:.9f},{tokens},{count},{ttft:.9f},{tpot:.9f}"
        for at, tokens, count, ttft, tpot in zip(
            given.sent, given.inputs, given.outputs, times.ttft, times.tpot, strict=True
        )
    ]
    path.write_text("\n".join(lines) + "\n")


def json_lines(cost: StepCost, given: Traffic, path: Path) -> None:
    """As LLMServingSim publishes runs of vLLM: arrival by one clock, everything else by another."""
    times = seen(cost, given)
    with path.open("w") as file:
        for at, tokens, count, ttft, e2e in zip(
            given.sent, given.inputs, given.outputs, times.ttft, times.e2e, strict=True
        ):
            queued = 27_536.5 + at
            row = {"input_toks": tokens, "output_toks": count, "arrival_time": 1_787_267_980.0 + at}
            row |= {"queued_ts": queued, "first_token_ts": queued + ttft, "last_token_ts": queued + e2e}
            file.write(json.dumps(row) + "\n")


def vllm_log(cost: StepCost, phases: Series[tuple[int, int]], seconds_each: float, path: Path) -> None:
    """A line every ten seconds, as vLLM rounds it; in each phase so many clients send prompts of up to so many tokens,
    each its next when its last was answered."""
    engine, chance = Engine(SETTINGS, cost), np.random.default_rng(1)
    lines = [f"(EngineCore pid=7) INFO [kv_cache_utils.py:1307] GPU KV cache size: {SETTINGS.num_blocks * 16:,} tokens"]
    now, number, before = 0.0, 0, (0, 0)
    for count, longest in phases:
        began = now
        next_line = now + LOG_SECONDS
        while now < began + seconds_each:
            for _ in range(count - engine.num_running - engine.num_waiting):
                lengths = int(chance.integers(longest // 2, longest)), int(chance.integers(50, 400))
                assert engine.submit(Sequence(number, *lengths), now) is None
                number += 1
            now = min(engine.wake_at() or next_line, next_line)
            engine.advance(now)
            if now >= next_line:
                counters = engine.counters
                done = (counters.prefilled_tokens, counters.generated_tokens)
                lines.append(_log_line(engine, *(new - old for new, old in zip(done, before, strict=True))))
                before, next_line = done, next_line + LOG_SECONDS
    path.write_text("\n".join(lines) + "\n")


def _log_line(engine: Engine, prompt: int, generated: int) -> str:
    return (
        "(APIServer pid=6) INFO 11-29 06:40:39 [loggers.py:259] Engine 000: Avg prompt throughput: "
        f"{prompt / LOG_SECONDS:.1f} tokens/s, Avg generation throughput: {generated / LOG_SECONDS:.1f} tokens/s, "
        f"Running: {engine.num_running} reqs, Waiting: {engine.num_waiting} reqs, "
        f"GPU KV cache usage: {engine.kv_usage * 100:.1f}%, Prefix cache hit rate: 0.0%"
    )


def steps(cost: StepCost, given: Traffic) -> Iterator[tuple[float, int, int, int, int]]:
    """Drive the engine as a worker does; seconds, prompts, decoding, prompt tokens and context of each step."""
    engine = Engine(replace(SETTINGS, leaping=False), cost)
    now, number = 0.0, 0
    while number < len(given.sent) or engine.num_running or engine.num_waiting:
        while number < len(given.sent) and given.sent[number] <= now:
            assert engine.submit(Sequence(number, given.inputs[number], given.outputs[number]), now) is None
            number += 1
        step = engine.begin_step(now)
        if step is None:
            now = given.sent[number]
            continue
        scheduler = engine._scheduler
        chunks = [chunk for _, chunk in scheduler.prefills]
        decoding, context = scheduler.batch.num_sequences, scheduler.batch.context_tokens
        now += step.seconds
        engine.end_step(now)
        yield step.seconds, len(chunks), decoding, sum(chunks), context


def trt_iterations(cost: StepCost, given: Traffic, path: Path) -> None:
    """What somebody has scraped from `/metrics`, a list of iterations a scrape."""
    told = [
        {
            "iter": number,
            "iterLatencyMS": seconds * 2000,
            "hostStepTimeMS": seconds * 1000,
            "kvCacheStats": {"maxNumBlocks": 4000, "usedNumBlocks": 1, "tokensPerBlock": 32},
            "inflightBatchingStats": {
                "numContextRequests": prompts,
                "numGenRequests": decoding,
                "numCtxTokens": tokens,
                "numGenKvTokens": context,
            },
        }
        for number, (seconds, prompts, decoding, tokens, context) in enumerate(steps(cost, given))
    ]
    path.write_text("".join(json.dumps(told[at : at + 100]) + "\n" for at in range(0, len(told), 100)))


def trt_log(cost: StepCost, given: Traffic, path: Path) -> None:
    lines = [
        f"[11/29/2026-06:40:39] [TRT-LLM] [I] iter = {number}, global_rank = 0, rank = 0, "
        f"currank_total_requests = 0/0, host_step_time = {seconds * 1000}ms, prev_device_step_time = N/A, "
        f"timestamp = 2026-11-29 06:40:39, num_scheduled_requests: {prompts + decoding}, states = "
        f"{{'num_ctx_requests': {prompts}, 'num_ctx_tokens': {tokens}, 'num_generation_tokens': {decoding}}}"
        for number, (seconds, prompts, decoding, tokens, _) in enumerate(steps(cost, given))
    ]
    path.write_text("\n".join(lines) + "\n")
