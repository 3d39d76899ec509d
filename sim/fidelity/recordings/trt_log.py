"""TensorRT-LLM's iteration log (`print_iter_log: true`): a line a step.

Source: `_profiler` in `tensorrt_llm/_torch/pyexecutor/py_executor.py`, 0.20 to 1.3: "iter = 7, global_rank = 0,
rank = 0, ..., host_step_time = 12.5ms, prev_device_step_time = 11.9ms, ..., num_scheduled_requests: 8, states =
{'num_ctx_requests': 0, 'num_ctx_tokens': 0, 'num_generation_tokens': 8}"; 1.3 writes "num_scheduled_requests = 8". Only
the first rank that logs is read: all ranks take the same steps.
"""

from __future__ import annotations

import re
from math import nan
from pathlib import Path
from typing import Final

import numpy as np

from sim.experiment.errors import InputError
from sim.fidelity.observed import Recording, Steps

LINE: Final = re.compile(
    r"iter = \d+, global_rank = (?P<rank>\d+),(?=.*?num_scheduled_requests(?:: | = )(?P<requests>\d+))"
    r"(?=.*?host_step_time = (?P<milliseconds>[\d.]+) ?ms)"
    r".*?'num_ctx_requests': (?P<prompts>\d+), 'num_ctx_tokens': (?P<prompt_tokens>\d+), "
    r"'num_generation_tokens': (?P<generated>\d+)"
)


def is_one(text: str) -> bool:
    """Say whether a text is such a log."""
    return LINE.search(text) is not None


def read(text: str, path: Path) -> Recording:
    """Read the steps of the first rank in which something was computed.

    Raises:
        InputError: the engine decodes several tokens a sequence and step.
    """
    found = [line for line in LINE.finditer(text) if int(line["requests"]) > 0]
    found = [line for line in found if line["rank"] == found[0]["rank"]]
    decoding = [(int(line["generated"]), int(line["requests"]) - int(line["prompts"])) for line in found]
    if sum(tokens for tokens, _ in decoding) > 1.5 * max(1, sum(sequences for _, sequences in decoding)):
        raise InputError(f"{path}: the engine speculates, several tokens a step; expected a log without")
    steps = Steps(
        seconds=np.array([float(line["milliseconds"]) / 1000 for line in found]),
        sequences=np.array([float(line["requests"]) for line in found]),
        prompt_tokens=np.array([float(line["prompt_tokens"]) for line in found]),
        context_tokens=np.full(len(found), nan),
    )
    return Recording(what=f"{len(found)} iterations of a TensorRT-LLM log", measured=steps)
