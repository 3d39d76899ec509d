"""Where requests go: a base URL taken apart, and the heads of requests to it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from sim.experiment.errors import InputError


@dataclass(frozen=True, slots=True)
class Address:
    """An endpoint's base URL. `prefix` stands before `/v1`."""

    host: str
    port: int
    is_tls: bool
    prefix: str

    @property
    def url(self) -> str:
        """The base URL again, without a `/v1` at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_tls else 'http'}://{host}:{self.port}{self.prefix}"


def address_of(url: str) -> Address:
    """Take a base URL apart; a `/v1` at its end may be there or not.

    Raises:
        InputError: it is no http or https URL with a host.
    """
    expected = "expected a URL such as http://gpu-node:8000"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InputError(f"{url}: {error}; {expected}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"{url}: {expected}")
    if parts.username or parts.password:
        raise InputError(f"{parts.hostname}: a URL with a password in it ends up in logs; use --api-key")
    if parts.query or parts.fragment:
        raise InputError(f"{url}: has a query or a fragment; {expected}")
    is_tls = parts.scheme == "https"
    prefix = parts.path.rstrip("/").removesuffix("/v1")
    return Address(parts.hostname, port or (443 if is_tls else 80), is_tls, prefix)


def head_of(address: Address, path: str, api_key: str | None) -> bytes:
    """Return the part of a request's head that is the same for every request with a key; no blank line at its end."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    standard = 443 if address.is_tls else 80
    lines = [
        f"POST {address.prefix}{path} HTTP/1.1",
        f"Host: {host}" + ("" if address.port == standard else f":{address.port}"),
        "User-Agent: windtunnel",
        "Accept: text/event-stream",
        "Content-Type: application/json",
    ]
    if api_key:
        lines.append(f"Authorization: Bearer {api_key}")
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")
