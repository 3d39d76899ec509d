"""TensorRT-LLM's other metrics: a list of the last iterations, which whoever reads it takes away.

Source: `/metrics` of `trtllm-serve` 1.3 with `enable_iter_perf_stats`, and its `MetricsCollector`.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from reference.engine import Engine
from reference.engine.engine import Step

MAX_ITERATIONS = 1000
"""What is kept when nobody reads (`iter_stats_max_iterations`)."""


class Iterations:
    """What each step of the engine was like, until somebody takes it."""

    def __init__(self, engine: Engine, *, num_blocks: int, block_size: int, max_num_seqs: int) -> None:
        self._engine = engine
        self._num_blocks, self._block_size, self._max_num_seqs = num_blocks, block_size, max_num_seqs
        self._steps: deque[dict[str, Any]] = deque(maxlen=MAX_ITERATIONS)
        self._number = 0
        self._num_finished = 0

    def note(self, step: Step) -> None:
        """Note a step that has just ended."""
        engine = self._engine
        num_decoding = step.num_sequences - step.num_prompts
        self._number += 1
        used = round(engine.kv_usage * self._num_blocks)
        finished, self._num_finished = engine.counters.finished - self._num_finished, engine.counters.finished
        self._steps.append(
            {
                "iter": self._number,
                # without an overlap scheduler an iteration is a step
                "iterLatencyMS": step.seconds * 1000,
                "hostStepTimeMS": step.seconds * 1000,
                "numActiveRequests": engine.num_running,
                "numQueuedRequests": engine.num_waiting,
                "numCompletedRequests": finished,
                "maxNumActiveRequests": self._max_num_seqs,
                "kvCacheStats": {
                    "maxNumBlocks": self._num_blocks,
                    "freeNumBlocks": self._num_blocks - used,
                    "usedNumBlocks": used,
                    "tokensPerBlock": self._block_size,
                },
                "inflightBatchingStats": {
                    "numScheduledRequests": step.num_sequences,
                    "numContextRequests": step.num_prompts,
                    "numGenRequests": num_decoding,
                    "numCtxTokens": step.num_tokens - num_decoding,
                    "numGenKvTokens": step.context_tokens,
                    "numPausedRequests": 0,
                },
            }
        )

    def take(self) -> list[dict[str, Any]]:
        """Return the steps that nobody has taken yet, and keep none of them."""
        taken = [*self._steps]
        self._steps.clear()
        return taken
