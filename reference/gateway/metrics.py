"""The gateway's metrics: requests by route and status, latency, first byte, in flight, and refusals by limit."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from reference.wire.metrics import LATENCY_BUCKETS


class GatewayMetrics:
    """The registry of one gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "windtunnel_gateway_requests", "Requests answered.", ["path", "status"], registry=self.registry
        )
        self._seconds = self._histogram("windtunnel_gateway_request_seconds", "From arrival to the last byte.")
        self._first_byte = self._histogram("windtunnel_gateway_first_byte_seconds", "From arrival to the first byte.")
        self.num_in_flight = 0
        in_flight = Gauge("windtunnel_gateway_in_flight", "Requests under way.", registry=self.registry)
        in_flight.set_function(lambda: self.num_in_flight)
        self.limited = Counter(
            "windtunnel_gateway_limited", "Requests refused by a rate limit.", ["tenant"], registry=self.registry
        )
        self._tokens = Counter(
            "windtunnel_gateway_tokens",
            "Tokens used, as answers told them.",
            ["tenant", "key", "kind"],
            registry=self.registry,
        )
        # looked up once: paths are those of the routes, statuses are few, tenants and keys are those of a file
        self._of: dict[tuple[str, int], tuple[Counter, Histogram, Histogram]] = {}
        self._tokens_of: dict[tuple[str, str], tuple[Counter, Counter]] = {}

    def answered(self, path: str, status: int, seconds: float, first_byte_seconds: float | None) -> None:
        """Count one request; 499 is a client that left."""
        found = self._of.get((path, status))
        if found is None:
            labelled = (
                self._requests.labels(path, str(status)),
                self._seconds.labels(path),
                self._first_byte.labels(path),
            )
            found = self._of[path, status] = labelled
        requests, whole, first_byte = found
        requests.inc()
        whole.observe(seconds)
        if first_byte_seconds is not None:
            first_byte.observe(first_byte_seconds)

    def used(self, tenant: str, key: str, input_tokens: int | None, output_tokens: int | None) -> None:
        """Account for what an answer said that it used; keys go by their names."""
        found = self._tokens_of.get((tenant, key))
        if found is None:
            labelled = self._tokens.labels(tenant, key, "input"), self._tokens.labels(tenant, key, "output")
            found = self._tokens_of[tenant, key] = labelled
        if input_tokens:
            found[0].inc(input_tokens)
        if output_tokens:
            found[1].inc(output_tokens)

    def _histogram(self, name: str, about: str) -> Histogram:
        return Histogram(name, about, ["path"], buckets=LATENCY_BUCKETS, registry=self.registry)
