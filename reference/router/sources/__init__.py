"""Where the router learns which endpoints there are: a watched file, DNS, or Kubernetes' EndpointSlices.

Each is a `reference.router.discovery.Source`: it tells everything there is whenever that changes, and nothing when it
cannot know. What then becomes of an endpoint is for `reference.router.discovery` to say.
"""

from __future__ import annotations

from pathlib import Path

from reference.router.discovery import LISTED, Source
from reference.router.settings import RouterSettings
from reference.router.sources.dns import DnsName
from reference.router.sources.kubernetes import ServiceSlices
from reference.router.sources.watched_file import WatchedFile


def sources_of(settings: RouterSettings) -> dict[str, Source]:
    """Return the sources that settings ask for, by a name of each. A file stands in for the endpoints of `pools`."""
    sources: dict[str, Source] = {}
    if settings.endpoints_file:
        sources[LISTED] = WatchedFile(Path(settings.endpoints_file))
    for pool in settings.pools:
        for place, name in enumerate(pool.dns):
            sources[f"{pool.model} dns {place}"] = DnsName(pool.model, name)
        for place, service in enumerate(pool.endpoint_slices):
            slices = ServiceSlices(pool.model, service, settings.kubernetes)
            sources[f"{pool.model} endpoint slices {place}"] = slices
    return sources
