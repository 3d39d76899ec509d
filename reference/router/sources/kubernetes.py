"""Endpoints from Kubernetes: a list of a Service's EndpointSlices, and then every change of it, as the API tells them.

Needs the verbs get, list and watch on `endpointslices` (API group discovery.k8s.io) in the Service's namespace, and
nothing else: no client library, the pod's own token (read again for each call, because it is rotated) and CA.
A watch that ends is taken up where it ended; when the API no longer knows that place (410), everything is listed anew.
While the API cannot be reached the endpoints stay as they are: the router's own health checks go on.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from math import inf
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from pydantic import ValidationError

from reference.router.discovery import Take
from reference.router.settings import KubernetesBlock, SlicesBlock
from reference.router.sources.endpoint_slices import EndpointSlice, endpoints_of

SERVICE_LABEL = "kubernetes.io/service-name"
PAGE_SIZE = 200
CONNECT_SECONDS = 5.0
GRACE_SECONDS = 15.0
"""How long a watch may be silent beyond the time after which the API ends it."""
SHORT_WATCH_SECONDS = 1.0
"""A watch that ends sooner than this has failed, however politely."""

_log = logging.getLogger(__name__)


class KubernetesError(Exception):
    """The API refused, or said what cannot be understood; the message says what and what may help."""


class Expired(Exception):
    """The API no longer knows the version that was to be watched from: everything is to be listed anew."""


class Backoff:
    """Ever longer pauses, up to a bound, each somewhere in its upper half, so that routers do not come back as one."""

    def __init__(self, chance: Callable[[], float], first: float = 0.5, longest: float = 30.0) -> None:
        self._chance = chance
        self._first, self._longest = first, longest
        self._next = first

    def reset(self) -> None:
        """Begin again at the shortest."""
        self._next = self._first

    def seconds(self) -> float:
        """Return the next pause."""
        pause, self._next = self._next, min(self._longest, 2 * self._next)
        return pause * (0.5 + 0.5 * self._chance())


class ServiceSlices:
    """The EndpointSlices of one Service, as the endpoints of one model."""

    def __init__(
        self,
        model: str,
        block: SlicesBlock,
        api: KubernetesBlock,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._model = model
        self._block = block
        self._api = api
        self._pause = pause
        self._backoff = Backoff(chance)
        self._slices: dict[str, EndpointSlice] = {}
        self._version: str | None = None
        """Where the next watch begins; None: nothing is known, list first."""
        namespace = block.namespace or api.own_namespace()
        self._url = f"{api.url}/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        self._needs = f"get, list and watch on endpointslices.discovery.k8s.io in namespace {namespace}"

    async def follow(self, take: Take) -> None:
        """List, watch, and tell what there is whenever it changes, for ever."""
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=self._api.watch_seconds + GRACE_SECONDS
        )
        connector = aiohttp.TCPConnector(ssl=self._tls())
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            expired_at = -inf
            while True:
                try:
                    if self._version is None:
                        await self._list(session, take)
                    await self._watch(session, take)
                except Expired:
                    self._version = None
                    before, expired_at = expired_at, time.monotonic()
                    if expired_at - before < SHORT_WATCH_SECONDS:
                        await self._pause(self._backoff.seconds())
                except (aiohttp.ClientError, OSError, TimeoutError, KubernetesError) as error:
                    _log.warning("%s: %s; the endpoints stay as they are", self._url, error or type(error).__name__)
                    await self._pause(self._backoff.seconds())

    async def _list(self, session: aiohttp.ClientSession, take: Take) -> None:
        """Read all slices, page by page."""
        found: dict[str, EndpointSlice] = {}
        onward = ""
        while True:
            query = self._query(limit=str(PAGE_SIZE), **({"continue": onward} if onward else {}))
            async with session.get(self._url, params=query, headers=self._headers()) as answer:
                await self._expect_well(answer)
                page = _read(await answer.read())
            found |= {one.metadata.name: one for one in _slices(page.get("items") or ())}
            about = page.get("metadata") or {}
            onward = about.get("continue") or ""
            if not onward:
                break
        self._slices, self._version = found, str(about.get("resourceVersion", ""))
        self._tell(take)

    async def _watch(self, session: aiohttp.ClientSession, take: Take) -> None:
        """Take changes until the API, or the network, ends the watch."""
        began = time.monotonic()
        query = self._query(
            watch="1",
            allowWatchBookmarks="true",
            resourceVersion=self._version or "",
            timeoutSeconds=str(round(self._api.watch_seconds)),
        )
        try:
            async with session.get(self._url, params=query, headers=self._headers()) as answer:
                await self._expect_well(answer)
                async for line in _lines(answer.content):
                    self._backoff.reset()
                    if self._apply(_read(line)):
                        self._tell(take)
        finally:
            lasted = time.monotonic() - began
            if lasted > SHORT_WATCH_SECONDS:
                self._backoff.reset()
        if lasted < SHORT_WATCH_SECONDS:
            raise KubernetesError(f"the watch ended after {lasted:.3f} s")

    def _apply(self, event: dict[str, Any]) -> bool:
        """Take one event in; say whether slices have changed."""
        kind, about = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            if about.get("code") == 410:
                raise Expired
            self._version = None
            raise KubernetesError(f"the watch failed: {about.get('message', about)}")
        (one,) = _slices([about])
        self._version = one.metadata.resource_version
        match kind:
            case "ADDED" | "MODIFIED":
                self._slices[one.metadata.name] = one
            case "DELETED":
                self._slices.pop(one.metadata.name, None)
            case _:
                # a bookmark says only how far we are
                return False
        return True

    def _tell(self, take: Take) -> None:
        take({self._model: endpoints_of(self._slices.values(), self._block)})

    async def _expect_well(self, answer: aiohttp.ClientResponse) -> None:
        if answer.status == 410:
            raise Expired
        if answer.status != 200:
            said = (await answer.content.read(1000)).decode("utf-8", "replace")
            needs = f"; the router's service account needs {self._needs}" if answer.status in (401, 403) else ""
            raise KubernetesError(f"answered {answer.status}{needs}: {said}")

    def _query(self, **more: str) -> dict[str, str]:
        return {"labelSelector": f"{SERVICE_LABEL}={self._block.service}", **more}

    def _headers(self) -> dict[str, str]:
        token = self._api.token_file and Path(self._api.token_file).read_text().strip()
        return {"accept": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}

    def _tls(self) -> ssl.SSLContext | bool:
        if not self._api.url.startswith("https://"):
            return True
        return ssl.create_default_context(cafile=self._api.ca_file or None)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Return whole lines of any length; the piece of one with which a stream breaks off is none."""
    rest = b""
    async for chunk in content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                yield line


def _read(raw: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise KubernetesError(f"what came is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise KubernetesError(f"what came is a JSON {type(found).__name__}; expected an object")
    return found


def _slices(items: Iterable[Any]) -> list[EndpointSlice]:
    try:
        return [EndpointSlice.model_validate(item) for item in items]
    except ValidationError as error:
        raise KubernetesError(f"what came is no EndpointSlice: {error}") from error
