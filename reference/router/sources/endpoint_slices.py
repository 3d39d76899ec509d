"""What the EndpointSlices of a Service say together: which pods may be given requests now.

A Service has several slices; a pod may stand in two of them while it moves from one to the other, and in one for IPv4
and one for IPv6. A pod that terminates, or is not ready, is left out: whoever follows the list drains it.
Source: discovery.k8s.io/v1, and KEP-1672 for the conditions.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from reference.router.discovery import url_of
from reference.router.settings import EndpointBlock, SlicesBlock


class _Part(BaseModel):
    """A part of an object of Kubernetes: what is not named here is not looked at."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Conditions(_Part):
    """None is unknown, which the API asks to be read as ready."""

    ready: bool | None = None
    terminating: bool | None = None


class TargetRef(_Part):
    """The pod behind an endpoint."""

    name: str = ""


class SliceEndpoint(_Part):
    """One pod in a slice. Only its first address counts: the API says that the others may be ignored."""

    addresses: tuple[str, ...] = ()
    conditions: Conditions = Conditions()
    target: TargetRef | None = Field(None, alias="targetRef")

    @property
    def takes_requests(self) -> bool:
        """Whether it is in rotation."""
        return self.conditions.ready is not False and not self.conditions.terminating and bool(self.addresses)


class SlicePort(_Part):
    """A port that all endpoints of a slice have."""

    name: str | None = None
    port: int | None = None


class Metadata(_Part):
    """An object's name and version."""

    name: str = ""
    resource_version: str = Field("", alias="resourceVersion")


class EndpointSlice(_Part):
    """One slice."""

    metadata: Metadata
    address_type: str = Field("IPv4", alias="addressType")
    endpoints: tuple[SliceEndpoint, ...] | None = None
    ports: tuple[SlicePort, ...] | None = None


def endpoints_of(slices: Iterable[EndpointSlice], block: SlicesBlock) -> list[EndpointBlock]:
    """Return the endpoints of a Service by name of their pod; IPv4 where a pod has both."""
    found: dict[str, EndpointBlock] = {}
    for one in sorted(slices, key=lambda each: (each.address_type != "IPv4", each.metadata.name)):
        port = _port(one, block.port)
        if port is None:
            continue
        for endpoint in one.endpoints or ():
            if not endpoint.takes_requests:
                continue
            address = endpoint.addresses[0]
            name = endpoint.target.name if endpoint.target and endpoint.target.name else f"{address}:{port}"
            url = url_of(block.scheme, address, port)
            made = EndpointBlock(name=name, url=url, weight=block.weight, version=block.version)
            found.setdefault(name, made)
    return [found[name] for name in sorted(found)]


def _port(one: EndpointSlice, wanted: str | int | None) -> int | None:
    """Return the number of the port that is wanted by name or number, or of the only one; None when there is none."""
    ports = [port for port in one.ports or () if port.port is not None]
    if wanted is None:
        return ports[0].port if len(ports) == 1 else None
    return next((port.port for port in ports if wanted in (port.name, port.port)), None)
