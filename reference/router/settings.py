"""The router's settings: pools with their policy and endpoints, how often it looks, where it logs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from reference.policy.ejection import EjectionSettings
from reference.policy.pool import PoolSettings
from reference.policy.queue import Fairness
from reference.wire.settings import ServerSettings


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class EndpointBlock(_Block):
    """One replica: its name in decisions, and where it listens."""

    name: str
    """In decisions, logs and metrics."""
    url: str
    """`http://host:port`."""
    weight: float = Field(1.0, ge=0)
    """Of its version: requests are split between the versions of a model by it."""
    version: str = ""
    """Of the model: endpoints of one version share its weight."""


class DnsBlock(_Block):
    """Endpoints by the records of a name, such as a headless Service's."""

    host: str
    """The name, whole or by the search path of `/etc/resolv.conf`."""
    record: Literal["A", "AAAA", "SRV"] = "A"
    """Addresses of one port, or services with ports of their own."""
    port: int | None = None
    """Where they listen; an SRV record says so itself."""
    interval_seconds: float = Field(5.0, gt=0)
    """How often it is asked for. When no name server answers, the endpoints stay as they are."""
    nameserver: str = Field("", pattern=r"^$|^.+:\d+$")
    """`address:port` of a name server of one's own; empty: the system's."""
    scheme: Literal["http", "https"] = "http"
    """Of their URLs."""
    weight: float = Field(1.0, ge=0)
    """Of their version."""
    version: str = ""
    """Of the model."""

    @model_validator(mode="after")
    def _has_port(self) -> DnsBlock:
        if self.record != "SRV" and self.port is None:
            raise ValueError(f"{self.host}: {self.record} records name no port; expected `port`")
        return self


class SlicesBlock(_Block):
    """Endpoints by the EndpointSlices of a Kubernetes Service: its pods that are ready and do not terminate."""

    service: str
    """Its name."""
    namespace: str = ""
    """Empty: the router's own."""
    port: str | int | None = None
    """Its name or number; None: the only one."""
    scheme: Literal["http", "https"] = "http"
    """Of their URLs."""
    weight: float = Field(1.0, ge=0)
    """Of the whole version: two Services of two versions make a canary."""
    version: str = ""
    """Of the model."""


SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


def _api_of_this_cluster() -> str:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}" if host else ""


class KubernetesBlock(_Block):
    """How the API of Kubernetes is reached; the defaults are a pod's. Its service account needs get, list and watch on
    `endpointslices` of `discovery.k8s.io` in the namespaces of the Services."""

    url: str = Field(default_factory=_api_of_this_cluster)
    """Of the API server; in a pod KUBERNETES_SERVICE_HOST and _PORT say it."""
    token_file: str = f"{SERVICE_ACCOUNT}/token"
    """Read for every call; empty: no token."""
    ca_file: str = f"{SERVICE_ACCOUNT}/ca.crt"
    """Empty: the system's."""
    namespace_file: str = f"{SERVICE_ACCOUNT}/namespace"
    """Where the router runs; without it, in `default`."""
    watch_seconds: float = Field(300.0, gt=0)
    """A watch is begun anew after so long; one that is silent for longer is dead."""

    def own_namespace(self) -> str:
        """Return the namespace that the router runs in; `default` outside a cluster."""
        path = Path(self.namespace_file)
        return path.read_text().strip() if path.is_file() else "default"


class PoolBlock(_Block):
    """The endpoints of one model and the rules they are used by. Seconds; None is no such bound."""

    model: str
    """What requests name."""
    endpoints: tuple[EndpointBlock, ...] = ()
    """Those that are always there."""
    dns: tuple[DnsBlock, ...] = ()
    """Those that a name has."""
    endpoint_slices: tuple[SlicesBlock, ...] = ()
    """Those of Kubernetes Services. The service account needs get, list and watch on endpointslices.discovery.k8s.io
    in their namespaces."""
    policy: str = "least_in_flight"
    """A built-in policy, or `file.py:Class`."""
    policy_options: dict[str, Any] = {}
    """What the policy is made with."""
    policy_dir: str = "."
    """Where `file.py` is looked for."""
    block_size: int = 16
    """Tokens of a KV block of its engines, for policies that look at prefixes."""
    max_queued: int = 1000
    """More that wait are answered 429 with Retry-After, the least important first."""
    max_wait_seconds: float | None = None
    """Who has waited for so long is answered 503."""
    max_in_flight_per_endpoint: int | None = None
    """Dispatch no more to one endpoint; None: all at once, the engines queue."""
    fairness: Fairness = "in_flight"
    """Whose turn it is among equals in priority: "in_flight", "tokens" or "none" (`reference.policy.queue`)."""
    tenant_weights: dict[str, Annotated[float, Field(gt=0)]] = {}
    """For "tokens"; 1 for who is not named."""
    max_attempts: int = 3
    """Of one request, each on another endpoint where there is one, before the first byte only."""
    retry_budget_ratio: float = 0.1
    """Retries for each request that comes."""
    retry_min_per_second: float = 1.0
    """Retries that are allowed besides."""
    ejection_failures: int = 3
    """Requests that fail in a row until an endpoint is left out; never the last one."""
    ejection_base_seconds: float = 5.0
    """For how long, the first time; then twice as long each time."""
    ejection_max_seconds: float = 60.0
    """And never longer."""

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
    kubernetes: KubernetesBlock = Field(default_factory=KubernetesBlock)
    """How Kubernetes is asked for `endpoint_slices`."""
    scrape_interval_seconds: float = 1.0
    """How often each endpoint's metrics are read."""
    health_interval_seconds: float = 2.0
    """How often each endpoint is asked for its health."""
    decision_log: str = ""
    """A file that gets every decision as a JSON line; empty: decisions of requests that ask go to standard error."""
    decision_header: Literal["on_request", "always"] = "on_request"
    """Whose answers tell the decision in `x-windtunnel-decision`: those to `x-windtunnel-debug: decision`, or all."""
    seed: int = 0
    """Of the policies' draws."""
    max_body_bytes: int = 32 * 2**20
    """A larger request is answered 413."""

    @model_validator(mode="after")
    def _can_ask_kubernetes(self) -> RouterSettings:
        if any(pool.endpoint_slices for pool in self.pools) and not self.kubernetes.url:
            raise ValueError("endpoint_slices outside of a cluster: expected kubernetes.url")
        return self
