"""What even a perfect system needs: the bound from below that stands beside every answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil

import numpy as np

from sim.cluster.machines import Machine
from sim.experiment.schema import Pool, TrafficClass
from sim.experiment.workload import Workload, WorkloadRequest

AFTERWARDS_SECONDS = 60.0
"""Work that an SLO may still forgive after the last arrival."""


def perfect_replicas(
    pool: Pool, machine: Machine, workload: Workload, classes: Sequence[TrafficClass] | None = None
) -> int:
    """Return how many replicas even a perfect system needs: no queue, no idle moment, full batches.

    A step takes no less than its tokens at the rate of a full budget, there are no fewer steps than answers filled into
    batches of `max_num_seqs` need, and each of them reads its context. Of each class only the share that must be good
    is done, the least laborious of its requests, and it may go on for a while after the last arrival: a bound from
    below, never an estimate. `classes` None: all of the work.
    """
    shares = {kind.name: kind.slo.attainment for kind in classes or ()}
    by_class: dict[str, list[WorkloadRequest]] = {}
    for request in workload.requests:
        if request.model == pool.model:
            by_class.setdefault(request.traffic_class, []).append(request)
    seconds = sum(_least_work(pool, machine, ours, shares.get(name, 1.0)) for name, ours in by_class.items())
    return max(1, ceil(seconds / (workload.duration_seconds + AFTERWARDS_SECONDS) - 1e-9))


def _least_work(pool: Pool, machine: Machine, requests: Sequence[WorkloadRequest], share: float) -> float:
    cost, budget, seats = machine.cost, machine.settings.max_num_batched_tokens, machine.settings.max_num_seqs
    per_token = min(cost.seconds(0, tokens, 0, 0, 0.0) / tokens for tokens in (1, budget // 2 or 1, budget))
    # how much a prefix cache saves is not known before flying
    saved = pool.prefix_caching and any(request.prompt for request in requests)
    prompts = np.array([request.input_tokens for request in requests], dtype=float)
    outputs = np.array([request.output_tokens for request in requests], dtype=float)
    inputs = np.zeros(len(requests)) if saved else prompts
    if pool.disaggregated is not None:  # others compute the prompts and bring the first tokens
        inputs, outputs = np.zeros(len(requests)), np.maximum(outputs - 1, 0)
    # the first token comes with the prompt's last step
    reading = np.maximum(outputs - 1, 0) * (prompts + outputs / 2) * cost.per_context_token
    by_tokens = (inputs + outputs) * per_token + inputs * cost.per_prefill_token
    by_steps = outputs / seats * cost.seconds(1, 1, 0, 0, 0.0)
    kept = ceil(share * len(requests))
    return max(_smallest(by_tokens + reading, kept), _smallest(by_steps + reading, kept))


def _smallest(work: Iterable[float], count: int) -> float:
    return float(np.sort(np.asarray(work))[:count].sum())
