"""A plan asked for without a file: a few figures become the scenario that is flown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from sim.experiment.units import written

VARIATION = 0.8
"""Standard deviation of lengths over their mean: between the prompts (0.96) and the answers (0.77) of Azure's
conversation trace of 2023."""

ENOUGH_REQUESTS = 2000
LEAST_SECONDS, MOST_SECONDS = 300.0, 7200.0
"""Bounds of the window; within them, as long as enough requests take."""


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
    max_replicas: int
    minimise: str

    @property
    def name(self) -> str:
        """A name for the scenario: `plan-llama-3-1-8b-instruct`."""
        return "plan-" + re.sub(r"[^a-z0-9]+", "-", self.model.rsplit("/", 1)[-1].lower()).strip("-")

    def scenario(self) -> str:
        """Write the scenario."""
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
    - {{name: requests, slo: {{{slo}, attainment: {self.attainment:g}}}}}
cluster:
  router: {{policy: least_in_flight}}
  pools:
    - {{model: {self.model}, gpu: {self.gpus[0]}, tensor_parallel: {self.tensor_parallel[0]}, replicas: 1}}
plan:
  vary: {{{self._vary()}}}
  minimise: {self.minimise}
"""

    def _vary(self) -> str:
        vary = [f"replicas: 1..{self.max_replicas}", f"gpu: [{', '.join(self.gpus)}]"]
        if len(self.tensor_parallel) > 1:
            vary.append(f"tensor_parallel: [{', '.join(map(str, self.tensor_parallel))}]")
        return ", ".join(vary)


def _lengths(mean: int) -> str:
    if mean < 4:
        return str(mean)
    return f"{{kind: lognormal, mean: {mean}, stddev: {VARIATION * mean:g}, min: 1, max: {8 * mean}}}"
