"""Endpoints from DNS: the addresses (A, AAAA) or the services (SRV) of a name, asked for again at an interval.

What a name server answers is believed, also that there is nothing; when none answers, or one fails, the endpoints stay
as they are. This is what a headless Service of Kubernetes needs, and needs no right to ask Kubernetes itself.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from reference.router.discovery import Take, url_of
from reference.router.settings import DnsBlock, EndpointBlock

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

TIMEOUT_SECONDS = 3.0

_log = logging.getLogger(__name__)


class DnsName:
    """A name whose records are the endpoints of one model."""

    def __init__(self, model: str, block: DnsBlock) -> None:
        self._model = model
        self._block = block
        self._last: list[EndpointBlock] | None = None
        self._is_failing = False

    async def follow(self, take: Take) -> None:
        """Ask at every interval and tell what has changed, for ever."""
        from dns.exception import DNSException

        resolver = self._resolver()
        while True:
            try:
                found = await self._endpoints(resolver)
            except (DNSException, OSError) as error:
                if not self._is_failing:
                    _log.warning("%s: not resolved, its endpoints stay as they are: %s", self._block.host, error)
                self._is_failing = True
            else:
                self._is_failing = False
                if found != self._last:
                    self._last = found
                    take({self._model: found})
            await asyncio.sleep(self._block.interval_seconds)

    def _resolver(self) -> Resolver:
        from dns.asyncresolver import Resolver

        # the system's own are in /etc/resolv.conf, with the search path that makes short names of services work
        resolver = Resolver(configure=not self._block.nameserver)
        if self._block.nameserver:
            host, _, port = self._block.nameserver.rpartition(":")
            resolver.nameservers = [host.strip("[]")]
            resolver.port = int(port)
        return resolver

    async def _endpoints(self, resolver: Resolver) -> list[EndpointBlock]:
        block = self._block
        if block.record == "SRV":
            return await self._services(resolver)
        addresses = await _texts(resolver, block.host, block.record)
        assert block.port is not None
        return [self._endpoint(address, address, block.port) for address in sorted(addresses)]

    async def _services(self, resolver: Resolver) -> list[EndpointBlock]:
        """Resolve SRV records: those of the lowest priority number, each at the first address of its target."""
        records = [record.split() for record in await _texts(resolver, self._block.host, "SRV")]
        best = min((int(priority) for priority, *_ in records), default=0)
        found = []
        for target, port in sorted(
            (target, int(port)) for priority, _, port, target in records if int(priority) == best
        ):
            addresses = await _texts(resolver, target, "A") or await _texts(resolver, target, "AAAA")
            found += [self._endpoint(target.rstrip("."), address, port) for address in sorted(addresses)[:1]]
        return found

    def _endpoint(self, host: str, address: str, port: int) -> EndpointBlock:
        block = self._block
        url = url_of(block.scheme, address, port)
        return EndpointBlock(name=f"{host}:{port}", url=url, weight=block.weight, version=block.version)


async def _texts(resolver: Resolver, name: str, record: str) -> list[str]:
    """Return the records of a name as text; none when there is no such name, or it has none of this kind."""
    from dns.resolver import NXDOMAIN, NoAnswer

    try:
        answer = await resolver.resolve(name, record, lifetime=TIMEOUT_SECONDS, search=not name.endswith("."))
    except (NXDOMAIN, NoAnswer):
        return []
    return [found.to_text() for found in answer]
