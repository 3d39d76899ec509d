"""The gateway's settings: where the router is, whose keys are valid, and what each tenant may use."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from reference.policy.rate_limits import Limit
from reference.wire.settings import ServerSettings


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LimitBlock(_Block):
    """What one tenant may use. Rates per second."""

    requests_per_second: float | None = None
    request_burst: int | None = None
    tokens_per_second: float | None = None
    token_burst: int | None = None
    concurrency: int | None = None

    def limit(self) -> Limit:
        """Return it as the policy takes it."""
        return Limit(**self.model_dump())


class KeyBlock(_Block):
    """An API key, by its hash: the key itself is nowhere. A tenant may have several at a time, to change them."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    tenant: str
    models: tuple[str, ...] = ()
    """The models, or aliases, it may use; empty: all."""
    limit: LimitBlock | None = None
    """What it may use besides its tenant's limit."""

    @property
    def name(self) -> str:
        """The name of the key in accounts and logs, which tells nobody the key."""
        return self.sha256[:12]


class Policy(_Block):
    """Who may use what: the part of the settings that may change while the gateway runs."""

    keys: tuple[KeyBlock, ...] = ()
    limits: dict[str, LimitBlock] = Field(default_factory=dict)
    default_limit: LimitBlock | None = None


class GatewaySettings(ServerSettings):
    """Settings of the gateway. Without keys everybody is the tenant `default`."""

    router_url: str
    """Where the router is, such as http://router:8000."""
    keys: tuple[KeyBlock, ...] = ()
    """The valid keys, by their SHA-256."""
    limits: dict[str, LimitBlock] = Field(default_factory=dict)
    """What a tenant may use, by tenant."""
    default_limit: LimitBlock | None = None
    """What each tenant without a limit of its own may use; none: no limit."""
    policy_file: str = ""
    """JSON with `keys`, `limits` and `default_limit`, read again whenever it changes; over those here."""
    redis_url: str = ""
    """Where limits are shared between gateways, such as redis://redis:6379/0; empty: each gateway has its own."""
    when_redis_is_away: Literal["refuse", "admit"] = "refuse"
    """What happens to requests meanwhile: 503, or no limits."""
    lease_seconds: float = Field(default=15.0, gt=0)
    """After how long without a word from its gateway a request's reservation is given back."""
    aliases: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Names that callers may use, each with the models it stands for: the first one, or the next while that is away."""
    max_body_bytes: int = 32 * 2**20
    """A larger request is answered 413."""
    max_seconds: float = Field(default=3600.0, gt=0)
    """After so long a request is ended: with 504, or with an error event when its answer has begun."""
    access_log: str = "-"
    """A file, `-` for standard output, or empty for none."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of pages that may call from a browser; empty: only the same origin."""

    def policy(self) -> Policy:
        """Return the part that may change while the gateway runs."""
        return Policy(keys=self.keys, limits=self.limits, default_limit=self.default_limit)
