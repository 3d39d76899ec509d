"""The serving stack on a cluster: its secrets, its manifests, and the first token through the front door."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import secrets
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from e2e.cluster.certificates import certificate_for
from e2e.cluster.place import API_HOST, NAMESPACE, PAGE_HOST, TENANT, Place
from e2e.cluster.platform import APPLY, rendered, rolled_out
from e2e.cluster.programs import StageFailed
from e2e.cluster.stages import Clock
from e2e.components import MANIFESTS, Component

OVERLAY = "llm/overlays/kind"
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
WORKLOADS = ("llm-web", "llm-api", "router", "vllm-worker", "trt-worker", "bert-worker")


@dataclass(frozen=True, slots=True)
class FrontDoor:
    """Where a cluster is reached from outside: a virtual address, the hosts it answers for, whom to trust, a key."""

    address: str
    place: Place

    def connect(self, host: str = API_HOST, timeout: float = 10.0) -> http.client.HTTPSConnection:
        """Return a connection to a host at the virtual address, its certificate checked against our authority."""
        context = ssl.create_default_context(cafile=str(self.place.authority))
        return _At(self.address, host, context, timeout)

    def first_token(self, model: str = MODEL) -> str:
        """Ask for a streamed answer; return "" when a token has come, else what came instead."""
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": True, "max_tokens": 4}
        headers = {"authorization": f"Bearer {self.place.api_key}", "content-type": "application/json"}
        connection = self.connect()
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            answer = connection.getresponse()
            if answer.status != 200:
                return f"{answer.status} {answer.read(300).decode(errors='replace')}"
            told = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            connection.close()
        return "" if '"content"' in told and "[DONE]" in told else f"a stream without a token: {told[-200:]!r}"


class _At(http.client.HTTPSConnection):
    """A connection to an address that is asked as a host by its name: no resolver knows our hosts."""

    def __init__(self, address: str, host: str, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(host, 443, timeout=timeout, context=context)
        self._address, self._tls = address, context

    def connect(self) -> None:
        plain = socket.create_connection((self._address, 443), self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


@dataclass(frozen=True, slots=True)
class Stack:
    """The stack of one cluster."""

    place: Place
    components: Mapping[str, Component]

    def install(self, clock: Clock) -> str:
        """Make the secrets, apply the overlay, and wait for every workload."""
        programs = self.place.programs
        programs.must(*APPLY, seconds=60, given=(MANIFESTS / "llm/base/namespace.yaml").read_text())
        self.make_secrets()
        programs.must(*APPLY, seconds=min(180, clock.left), given=rendered(OVERLAY, self.components, clock))
        for workload in WORKLOADS:
            rolled_out(self.place, NAMESPACE, f"deployment/{workload}", clock)
        return f"{len(WORKLOADS)} workloads in namespace {NAMESPACE}"

    def make_secrets(self) -> None:
        """Make a key and a certificate, once; the cluster holds the key's hash only."""
        place = self.place
        if not place.key_file.is_file():
            place.key_file.touch(mode=0o600)
            place.key_file.write_text(f"wt-{secrets.token_urlsafe(24)}\n")
        keys = [{"sha256": hashlib.sha256(place.api_key.encode()).hexdigest(), "tenant": TENANT}]
        self._secret("gateway-keys", "Opaque", {"keys.json": json.dumps(keys).encode()})
        # the cluster's own certificate stays; it is replaced when another authority made it
        known = place.programs.ask(
            "kubectl", "-n", NAMESPACE, "get", "secret", "llm-tls", "-o", "jsonpath={.metadata.labels.authority}"
        )
        if known.code == 0 and place.authority.is_file() and known.out == _mark(place):
            return
        self.renew_certificate()

    def renew_certificate(self) -> None:
        """Give the front door a new certificate of the same authority."""
        certificate, key = certificate_for([API_HOST, PAGE_HOST], self.place.authority)
        data = {"tls.crt": certificate, "tls.key": key}
        self._secret("llm-tls", "kubernetes.io/tls", data, {"authority": _mark(self.place)})

    def front_door(self, clock: Clock) -> FrontDoor:
        """Return the way in, when the load balancer has an address.

        Raises:
            StageFailed: it gets none.
        """
        found = ""

        def missing() -> str:
            nonlocal found
            path = "jsonpath={.status.loadBalancer.ingress[0].ip}"
            answer = self.place.programs.ask(
                *("kubectl", "-n", "ingress-nginx", "get", "service", "ingress-nginx-controller", "-o", path),
                seconds=30,
            )
            found = answer.out.strip()
            return "" if found else answer.last_words or "the load balancer has no address yet"

        clock.until(missing)
        return FrontDoor(found, self.place)

    def first_token(self, clock: Clock) -> str:
        """Wait until a token has come all the way through the virtual address."""
        door = self.front_door(clock)
        clock.until(door.first_token)
        return f"through https://{API_HOST} at {door.address}"

    def _secret(self, name: str, kind: str, data: Mapping[str, bytes], labels: Mapping[str, str] | None = None) -> None:
        secret: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": kind,
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": dict(labels or {})},
            "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
        }
        self.place.programs.must(*APPLY, seconds=60, given=json.dumps(secret))


def _mark(place: Place) -> str:
    """Return a label's value that tells one authority from another."""
    return hashlib.sha256(place.authority.read_bytes()).hexdigest()[:40]


def require_door(place: Place) -> FrontDoor:
    """Return the way into a cluster that is up.

    Raises:
        StageFailed: it is not.
    """
    import time

    if not place.authority.is_file() or not place.key_file.is_file():
        raise StageFailed(f"cluster {place.name} is not up: `windtunnel cluster up` makes one")
    return Stack(place, {}).front_door(Clock(time.monotonic() + 5))
