"""Other workloads out of one: dealt anew for another seed, in less time, and one model's share of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sim.capacity.decide import BLOCK_SECONDS
from sim.experiment.generate import content_hash
from sim.experiment.streams import stream
from sim.experiment.workload import Workload, WorkloadRequest


def reshuffled(workload: Workload, seed: int) -> Workload:
    """Deal the lengths and prompts of a workload out anew among the requests of each minute and class."""
    random = stream(seed, "reshuffle")
    places: dict[tuple[str, str, int], list[int]] = {}
    for place, request in enumerate(workload.requests):
        key = (request.model, request.traffic_class, int(request.scheduled // BLOCK_SECONDS))
        places.setdefault(key, []).append(place)
    requests = list(workload.requests)
    for block in places.values():
        for place, other in zip(block, random.permutation(len(block)), strict=True):
            source = workload.requests[block[int(other)]]
            if source.session or workload.requests[place].session:
                continue  # the turns of a session belong together
            requests[place] = replace(
                requests[place],
                input_tokens=source.input_tokens,
                output_tokens=source.output_tokens,
                prompt=source.prompt,
            )
    return _with(workload, requests)


def hastened(workload: Workload, factor: float) -> Workload:
    """Return a workload that passes in `factor` times less time."""
    faster = _with(workload, (replace(r, scheduled=r.scheduled / factor) for r in workload.requests))
    return replace(faster, duration_seconds=workload.duration_seconds / factor)


def of_model(workload: Workload, model: str) -> Workload:
    """Return the requests that ask for one model."""
    ours = (request for request in workload.requests if request.model == model)
    return _with(workload, (replace(request, index=index) for index, request in enumerate(ours)))


def _with(workload: Workload, requests: Iterable[WorkloadRequest]) -> Workload:
    made = tuple(requests)
    return replace(workload, requests=made, content_hash=content_hash(made))
