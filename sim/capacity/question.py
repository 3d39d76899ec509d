"""A plan asked for without a file: a few figures become the scenario that is flown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from sim.experiment.errors import InputError
from sim.experiment.units import written
from sim.hardware import HardwareError, find_model, kv_blocks_for

VARIATION = 0.8
"""Standard deviation of lengths over their mean: between the prompts (0.96) and the answers (0.77) of Azure's
conversation trace of 2023."""

BLOCK_SIZE = 16
"""A pool's, where the scenario does not say."""

ENOUGH_REQUESTS = 2000
LEAST_SECONDS, MOST_SECONDS = 300.0, 7200.0
"""Bounds of the window; within them, as long as enough requests take."""

LONGEST = 8
"""Times the mean: no prompt and no answer is longer."""

PARALLEL = (1, 2, 4, 8)
"""GPUs of a replica that are tried where the question does not say: those of one node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """How many replicas for this model at this rate with these lengths under this SLO? Seconds, requests a second."""

    model: str
    rate: float
    input_tokens: int
    output_tokens: int
    ttft: float | None
    tpot: float | None
    e2e: float | None
    attainment: float
    gpus: Sequence[str]
    tensor_parallel: Sequence[int]
    """Empty: every number of GPUs up to a node's on which the model fits."""
    max_replicas: int
    minimise: str

    @property
    def name(self) -> str:
        """A name for the scenario: `plan-llama-3-1-8b-instruct`."""
        return "plan-" + re.sub(r"[^a-z0-9]+", "-", self.model.rsplit("/", 1)[-1].lower()).strip("-")

    def scenario(self) -> str:
        """Write the scenario.

        Raises:
            InputError: the model or a GPU is unknown, or the model fits on none of them.
        """
        gpu, parallel = self._places()[0]
        seconds = min(MOST_SECONDS, max(LEAST_SECONDS, ceil(ENOUGH_REQUESTS / self.rate / 60) * 60.0))
        slos = {"ttft": self.ttft, "tpot": self.tpot, "e2e": self.e2e}
        slo = ", ".join(f"{name}: {written(value)}" for name, value in slos.items() if value is not None)
        return f"""\
windtunnel: 1
name: {self.name}
about: {self.rate:g} requests a second of {self.input_tokens} and {self.output_tokens} tokens, as asked without a file.
workload:
  arrivals: {{process: poisson, rate: {self.rate:.12g}/s}}
  duration: {written(seconds)}
  lengths:
    input: {_lengths(self.input_tokens)}
    output: {_lengths(self.output_tokens)}
  classes:
    - {{name: traffic, slo: {{{slo}, attainment: {self.attainment:g}}}}}
cluster:
  router: {{policy: least_in_flight}}
  pools:
    - model: {self.model}
      gpu: {gpu}
      tensor_parallel: {parallel}
      max_model_len: {self._longest}
      replicas: 1
plan:
  vary: {{{self._vary()}}}
  minimise: {self.minimise}
"""

    def _vary(self) -> str:
        vary = [f"replicas: 1..{self.max_replicas}", f"gpu: [{', '.join(self.gpus)}]"]
        parallel = sorted({parallel for _, parallel in self._places()})
        if len(parallel) > 1:
            vary.append(f"tensor_parallel: [{', '.join(map(str, parallel))}]")
        return ", ".join(vary)

    @property
    def _longest(self) -> int:
        """Tokens of the longest request there can be, as far as the model goes."""
        return min(find_model(self.model).max_model_len, _most(self.input_tokens) + _most(self.output_tokens))

    def _places(self) -> list[tuple[str, int]]:
        """Find the GPUs, and how many of them a replica takes, on which the model fits: fewest first of each kind."""
        found, why = [], ""
        for gpu in self.gpus:
            for parallel in self.tensor_parallel or PARALLEL:
                try:
                    if kv_blocks_for(gpu, self.model, tensor_parallel=parallel) * BLOCK_SIZE >= self._longest:
                        found.append((gpu, parallel))
                except HardwareError as error:
                    why = str(error)
        if not found:
            raise InputError(f"plan: {why or f'no GPU holds a request of {self._longest} tokens'}")
        return found


def _most(mean: int) -> int:
    return mean if mean < 4 else LONGEST * mean


def _lengths(mean: int) -> str:
    if mean < 4:
        return str(mean)
    return f"{{kind: lognormal, mean: {mean}, stddev: {VARIATION * mean:g}, min: 1, max: {_most(mean)}}}"
