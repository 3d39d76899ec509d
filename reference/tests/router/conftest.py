"""A small API server of Kubernetes that knows EndpointSlices only, and speaks list and watch as a real one does.

Every change has a version; a watch begins after the version it is given and is told what came since; versions that
were compacted away are answered 410, or with an ERROR event in a watch that has begun. Watches end in their time.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer

from reference.router.settings import KubernetesBlock

TOKEN = "token-1"
SERVICE = "kubernetes.io/service-name"
LISTED_FIELDS = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList"}


class SlicesApi:
    """The state of the API and its handlers. `events` may be cut short, silenced or refused by a test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = ""
        self.watch_seconds = 60.0
        self.version = 100
        self.oldest = 0
        self.token = TOKEN
        self.slices: dict[str, dict[str, Any]] = {}
        self.events: list[tuple[int, dict[str, Any]]] = []
        self.calls: list[dict[str, str]] = []
        self.refuse: list[int] = []
        """Statuses that the next calls are answered with."""
        self.page_size = 500
        self._changed = asyncio.Event()
        self._watches: list[web.StreamResponse] = []

    @property
    def settings(self) -> KubernetesBlock:
        """How a pod reaches it: by TLS with the cluster's own CA, and a token in a file."""
        return KubernetesBlock(
            url=self.url,
            token_file=str(self.directory / "token"),
            ca_file=str(self.directory / "ca.crt"),
            namespace_file=str(self.directory / "namespace"),
            watch_seconds=self.watch_seconds,
        )

    def rotate(self, token: str) -> None:
        """Change the pod's token, here and in its file."""
        self.token = token
        (self.directory / "token").write_text(token + "\n")

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices", self._get)
        return application

    def put(self, name: str, *endpoints: dict[str, Any], service: str = "llama", **more: Any) -> None:
        kind = "MODIFIED" if name in self.slices else "ADDED"
        self.version += 1
        made = slice_of(name, *endpoints, service=service, version=self.version, **more)
        self.slices[name] = made
        self._happen(kind, made)

    def delete(self, name: str) -> None:
        self.version += 1
        gone = self.slices.pop(name)
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._happen("DELETED", gone)

    def bookmark(self) -> None:
        self.version += 1
        about = {"kind": "EndpointSlice", "metadata": {"resourceVersion": str(self.version)}}
        self._happen("BOOKMARK", about)

    def compact(self) -> None:
        """Forget the history: a watch from before now is told 410."""
        self.oldest = self.version
        self.events.clear()

    def drop_watches(self) -> None:
        """Cut every connection that watches, in the middle of whatever it is."""
        for watch in self._watches:
            transport = watch._req.transport if watch._req is not None else None
            if transport is not None:
                transport.abort()
        self._watches.clear()

    @property
    def num_watches(self) -> int:
        return len(self._watches)

    def num_calls(self, watch: bool) -> int:
        return sum(("watch" in call) is watch for call in self.calls)

    def _happen(self, kind: str, about: dict[str, Any]) -> None:
        self.events.append((self.version, {"type": kind, "object": json.loads(json.dumps(about))}))
        self._changed.set()
        self._changed = asyncio.Event()

    async def _get(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(dict(request.query))
        if self.refuse:
            return status(self.refuse.pop(0), "on demand")
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return status(401, "Unauthorized")
        return await (self._watch(request) if request.query.get("watch") else self._list(request))

    async def _list(self, request: web.Request) -> web.Response:
        names = sorted(name for name, made in self.slices.items() if selected(request, made))
        start = int(request.query.get("continue", 0))
        size = min(self.page_size, int(request.query.get("limit", 500)))
        about = {"resourceVersion": str(self.version)}
        if start + size < len(names):
            about["continue"] = str(start + size)
        items = [self.slices[name] for name in names[start : start + size]]
        return web.json_response({**LISTED_FIELDS, "metadata": about, "items": items})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        seen = int(request.query["resourceVersion"])
        if seen < self.oldest:
            return status(410, "too old resource version")
        loop = asyncio.get_running_loop()
        end = loop.time() + float(request.query["timeoutSeconds"])
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(request)
        self._watches.append(response)
        while (left := end - loop.time()) > 0:
            changed = self._changed
            if seen < self.oldest:
                gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
                await write(response, {"type": "ERROR", "object": gone})
                break
            for version, event in [*self.events]:
                if version > seen:
                    seen = version
                    if event["type"] == "BOOKMARK" or selected(request, event["object"]):
                        await write(response, event)
            try:
                await asyncio.wait_for(changed.wait(), left)
            except TimeoutError:
                break
        self._watches.remove(response)
        return response


async def write(response: web.StreamResponse, event: dict[str, Any]) -> None:
    """Write a line in two pieces, as TCP may bring it."""
    line = json.dumps(event).encode() + b"\n"
    await response.write(line[:40])
    await asyncio.sleep(0)
    await response.write(line[40:])


def selected(request: web.Request, made: dict[str, Any]) -> bool:
    key, _, value = request.query["labelSelector"].partition("=")
    return bool(made["metadata"]["labels"].get(key) == value)


def status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "status": "Failure", "message": message, "code": code}, status=code)


def pod(name: str, address: str, *, ready: bool | None = True, terminating: bool | None = None) -> dict[str, Any]:
    conditions = {"ready": ready, "serving": ready, "terminating": terminating}
    return {
        "addresses": [address],
        "conditions": {key: value for key, value in conditions.items() if value is not None},
        "targetRef": {"kind": "Pod", "name": name, "namespace": "serving", "uid": f"uid-{name}"},
        "nodeName": "node-0",
    }


def slice_of(
    name: str,
    *endpoints: dict[str, Any],
    service: str = "llama",
    version: int = 1,
    address_type: str = "IPv4",
    ports: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": name,
            "namespace": "serving",
            "resourceVersion": str(version),
            "labels": {SERVICE: service, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
        },
        "addressType": address_type,
        "endpoints": list(endpoints) or None,
        "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}] if ports is None else ports,
    }


@pytest.fixture
async def slices_api(tmp_path: Path) -> AsyncIterator[SlicesApi]:
    """An API server behind TLS, with the files that a pod of namespace `serving` has."""
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    (tmp_path / "namespace").write_text("serving\n")
    api = SlicesApi(tmp_path)
    api.rotate(TOKEN)
    server = TestServer(api.application(), scheme="https")
    await server.start_server(ssl=tls, shutdown_timeout=0.01)
    api.url = f"https://127.0.0.1:{server.port}"
    yield api
    api.drop_watches()
    await server.close()


@pytest.fixture(scope="session", name="pod")
def _pod() -> Callable[..., dict[str, Any]]:
    return pod


@pytest.fixture(scope="session", name="slice_of")
def _slice_of() -> Callable[..., dict[str, Any]]:
    return slice_of
