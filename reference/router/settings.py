"""The router's settings: pools with their policy and endpoints, how often it looks, where it logs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from reference.policy.ejection import EjectionSettings
from reference.policy.pool import PoolSettings
from reference.policy.queue import Fairness
from reference.wire.settings import ServerSettings


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EndpointBlock(_Block):
    """One replica: its name in decisions, and where it listens."""

    name: str
    url: str
    weight: float = 1.0
    version: str = ""


class PoolBlock(_Block):
    """The endpoints of one model and the rules they are used by. Seconds; None is no such bound."""

    model: str
    endpoints: tuple[EndpointBlock, ...] = ()
    policy: str = "least_in_flight"
    """A built-in policy, or `file.py:Class`."""
    policy_options: dict[str, Any] = {}
    policy_dir: str = "."
    """Where `file.py` is looked for."""
    block_size: int = 16
    max_queued: int = 1000
    max_wait_seconds: float | None = None
    max_in_flight_per_endpoint: int | None = None
    fairness: Fairness = "in_flight"
    """Whose turn it is among equals in priority: "in_flight", "tokens" or "none" (`reference.policy.queue`)."""
    tenant_weights: dict[str, Annotated[float, Field(gt=0)]] = {}
    """For "tokens"; 1 for who is not named."""
    max_attempts: int = 3
    retry_budget_ratio: float = 0.1
    retry_min_per_second: float = 1.0
    ejection_failures: int = 3
    ejection_base_seconds: float = 5.0
    ejection_max_seconds: float = 60.0

    def pool_settings(self) -> PoolSettings:
        """Return them as the policy pool takes them."""
        return PoolSettings(
            max_queued=self.max_queued,
            max_wait_seconds=self.max_wait_seconds,
            max_in_flight_per_endpoint=self.max_in_flight_per_endpoint,
            fairness=self.fairness,
            tenant_weights=self.tenant_weights,
            max_attempts=self.max_attempts,
            retry_budget_ratio=self.retry_budget_ratio,
            retry_min_per_second=self.retry_min_per_second,
            ejection=EjectionSettings(self.ejection_failures, self.ejection_base_seconds, self.ejection_max_seconds),
        )


class RouterSettings(ServerSettings):
    """Settings of the router."""

    pools: tuple[PoolBlock, ...]
    """One for each model: its policy, queue and endpoints."""
    endpoints_file: str = ""
    """JSON, `{model: [{name, url, weight, version}]}`, read again whenever it changes; over those in `pools`."""
    scrape_interval_seconds: float = 1.0
    """How often each endpoint's metrics are read."""
    health_interval_seconds: float = 2.0
    """How often each endpoint is asked for its health."""
    decision_log: str = ""
    """A file that gets every decision as a JSON line; empty for none."""
    seed: int = 0
    """Of the policies' draws."""
    max_body_bytes: int = 32 * 2**20
    """A larger request is answered 413."""
