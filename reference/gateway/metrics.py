"""The gateway's metrics: requests by route and status, latency, first byte, in flight, and refusals by limit."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from reference.wire.metrics import Counts, Latencies


class GatewayMetrics:
    """The registry of one gateway. Paths are those of the routes, tenants and keys those of a file: series are few."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self._requests = Counts("windtunnel_gateway_requests", "Requests answered.", ["path", "status"], own)
        self._seconds = Latencies("windtunnel_gateway_request_seconds", "From arrival to the last byte.", "path", own)
        self._first_byte = Latencies(
            "windtunnel_gateway_first_byte_seconds", "From arrival to the first byte.", "path", own
        )
        self.num_in_flight = 0
        in_flight = Gauge("windtunnel_gateway_in_flight", "Requests under way.", registry=own)
        in_flight.set_function(lambda: self.num_in_flight)
        self._limited = Counts("windtunnel_gateway_limited", "Requests refused by a rate limit.", ["tenant"], own)
        self._tokens = Counts(
            "windtunnel_gateway_tokens", "Tokens used, as answers told them.", ["tenant", "key", "kind"], own
        )

    def answered(self, path: str, status: int, seconds: float, first_byte_seconds: float | None) -> None:
        """Count one request; 499 is a client that left."""
        self._requests.add((path, str(status)))
        self._seconds.observe(path, seconds)
        if first_byte_seconds is not None:
            self._first_byte.observe(path, first_byte_seconds)

    def limited(self, tenant: str) -> None:
        """Count a refusal by a rate limit."""
        self._limited.add((tenant,))

    def used(self, tenant: str, key: str, input_tokens: int | None, output_tokens: int | None) -> None:
        """Account for what an answer said that it used; keys go by their names."""
        if input_tokens:
            self._tokens.add((tenant, key, "input"), input_tokens)
        if output_tokens:
            self._tokens.add((tenant, key, "output"), output_tokens)
