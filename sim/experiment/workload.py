"""A workload: the list of requests that a scenario asks for, identical on every rung and hashed in every report."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PromptSegment:
    """A stretch of a prompt. Equal keys are equal text, so prompts that start with equal segments share a prefix."""

    key: int
    tokens: int


@dataclass(frozen=True, slots=True)
class WorkloadRequest:
    """One request to be sent. `output_tokens` is what the engine will generate; policies never see it."""

    index: int
    scheduled: float
    """Seconds since the run's zero."""
    input_tokens: int
    output_tokens: int
    model: str
    traffic_class: str = "default"
    tenant: str = "default"
    priority: int = 0
    session: str = ""
    prompt: tuple[PromptSegment, ...] = ()
    """Segments adding up to `input_tokens`; empty: a prompt that shares nothing with any other."""
    deadline_seconds: float | None = None
    """How long its client waits for the first token; None: for ever."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests in order of `scheduled`, with the account of how they came to be: rows read = emitted + dropped."""

    requests: tuple[WorkloadRequest, ...]
    duration_seconds: float
    content_hash: str
    rows_read: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What was changed on the way, a sentence each: timestamps de-quantised, rate scaled, thinned."""
