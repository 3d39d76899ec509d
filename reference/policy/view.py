"""What a policy may know: the request as declared and the endpoints as last observed.

Refuses to know: how long the answer will be. No type here has a field for it, so no policy can read it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from_fields: Final = tuple.__new__
"""`from_fields(Decision, (endpoint, reason, scores))` is `Decision(endpoint, reason, scores)` in half the time."""

Chance = Callable[[], float]
"""A source of uniforms in [0, 1); the caller owns the seed."""


class RequestView(NamedTuple):
    """A request as its client declared it. Lives from its arrival at the router to its end."""

    request_id: str
    model: str
    arrived_at: float
    input_tokens: int
    max_output_tokens: int | None = None
    block_hashes: tuple[int, ...] = ()
    """Chained hashes of the prompt's full blocks (`reference.tokens`), shareable prefix first."""
    tenant: str = "default"
    traffic_class: str = "default"
    priority: int = 0
    """Larger is more important."""
    session: str | None = None
    deadline: float | None = None
    """Absolute seconds after which the client no longer wants a first token; None: never."""


class Observation(NamedTuple):
    """What a scrape of a replica reported. Stale by nature: read it with `observed_at`."""

    observed_at: float
    running: int = 0
    queue_depth: int = 0
    kv_usage: float = 0.0
    """KV cache usage, a fraction 0 to 1."""


NEVER_OBSERVED = Observation(observed_at=float("-inf"))


@dataclass(slots=True)
class Endpoint:
    """A replica as the router sees it. Born when discovered, mutated by its pool only, gone when removed.

    Policies read it and never write it: `in_flight` is fresh (this router dispatched it), `observed` is stale.
    """

    name: str
    weight: float = 1.0
    in_flight: int = 0
    in_flight_tokens: int = 0
    """Input tokens of the requests in flight."""
    observed: Observation = field(default=NEVER_OBSERVED)
    is_draining: bool = False
    ejected_until: float | None = None
    version: str = ""
    """For canary weights between versions of one model."""


class Decision(NamedTuple):
    """Where a request goes and why. `scores` are (endpoint name, score in [0, 1]) of those that passed the filters."""

    endpoint: str
    reason: str
    scores: tuple[tuple[str, float], ...] = ()


class Rejected(NamedTuple):
    """An expected refusal. `status` is the HTTP status its edge should answer with (429 or 503)."""

    reason: str
    retry_after_seconds: float | None = None
    status: int = 429
