"""The plan of a replay: what is sent, and when, written ahead so that the sender only sends.

A plan is two files: `bodies.bin`, the HTTP bodies one after the other, and `plan.jsonl`, a line with the settings and
then a line a request in order of schedule: [index, scheduled, offset, length, key, class, session, priority, deadline].
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from e2e.replay.prompts import Prompter, Wording
    from sim.experiment.workload import Workload, WorkloadRequest

PLAN_FILE, BODIES_FILE = "plan.jsonl", "bodies.bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What holds for all requests of a replay."""

    base_url: str
    path: str = "/v1/chat/completions"
    run_id: str = "run"
    stall_seconds: float = 60.0
    """A stream in which nothing comes for so long has failed."""
    connect_seconds: float = 10.0
    overtime_seconds: float = 120.0
    """How long after the window open requests are waited for; then they are cancelled."""
    duration_seconds: float = 0.0
    verify_tls: bool = True
    authority: str = ""
    """A file with the certificate by which the endpoint is trusted; empty: the system's."""
    connect_to: str = ""
    """The address that is connected to instead of the one that the URL's host resolves to."""
    keys: tuple[str, ...] = ()
    """API keys; a request names its own by position, -1 for none."""
    retries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By class: how its clients send again, as `sim.experiment.schema.ClientRetry` has it."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One request as the sender needs it. `body` is what goes over the wire."""

    index: int
    scheduled: float
    body: memoryview
    key: int
    traffic_class: str
    session: str
    priority: int
    deadline_seconds: float | None


def write_plan(
    directory: Path,
    workload: Workload,
    settings: Settings,
    *,
    api_keys: Mapping[str, str],
    models: Mapping[str, str],
    wording: Wording,
    salt: int,
    exact_lengths: bool = True,
) -> None:
    """Render every request of a workload into a plan."""
    from e2e.replay.prompts import Prompter

    numbers = {key: number for number, key in enumerate(settings.keys)}
    prompter = Prompter(wording, salt)
    offset = 0
    with (directory / PLAN_FILE).open("wb") as plan, (directory / BODIES_FILE).open("wb") as bodies:
        plan.write(_line(asdict(settings)))
        for request in workload.requests:
            body = body_of(request, models.get(request.model, request.model), prompter, exact_lengths)
            key = numbers[api_keys[request.tenant]] if request.tenant in api_keys else -1
            rest = (request.traffic_class, request.session, request.priority, request.deadline_seconds)
            plan.write(_line([request.index, request.scheduled, offset, len(body), key, *rest]))
            bodies.write(body)
            offset += len(body)


def body_of(request: WorkloadRequest, model: str, prompter: Prompter, exact_length: bool = True) -> bytes:
    """Return the JSON body of a request: as many output tokens as the workload says, streamed, with usage.

    `exact_length`: and not fewer, which vLLM, TensorRT-LLM and the emulated engine know by the same words.
    """
    tokens = request.output_tokens
    exactly = f'"min_tokens":{tokens},"ignore_eos":true,' if exact_length else ""
    return b"".join(
        [
            b'{"model":',
            json.dumps(model).encode(),
            b',"messages":[{"role":"user","content":"',
            prompter.prompt(request),
            f'"}}],"max_tokens":{tokens},{exactly}"temperature":0,'.encode(),
            b'"stream":true,"stream_options":{"include_usage":true}}',
        ]
    )


def read_plan(directory: Path, share: tuple[int, int] = (0, 1)) -> tuple[Settings, list[Planned]]:
    """Read a plan back; `share` (i, n) takes every n-th request from the i-th on, for one of n senders."""
    part, parts = share
    with (directory / PLAN_FILE).open("rb") as plan:
        given = json.loads(plan.readline())
        settings = Settings(**given | {"keys": tuple(given["keys"])})
        return settings, list(_planned(plan, directory / BODIES_FILE, part, parts))


def _planned(lines: Iterator[bytes], bodies: Path, part: int, parts: int) -> Iterator[Planned]:
    if not bodies.stat().st_size:
        return
    with bodies.open("rb") as file:
        # slices of a read-only map are copied when they are sent, not before: a plan may be larger than memory
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    for number, line in enumerate(lines):
        if number % parts == part:
            index, scheduled, offset, length, *rest = json.loads(line)
            yield Planned(index, scheduled, view[offset : offset + length], *rest)


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
