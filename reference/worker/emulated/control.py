"""The control routes: what a test or a chaos experiment tells a worker to do wrong.

On a port of their own they answer whatever is wrong with the worker's. `POST /control/inject` begins a fault that ends
by itself, `GET` lists those under way and `DELETE` ends them; the others set what stays until it is set otherwise.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson

from reference.wire.errors import ApiError
from reference.worker.emulated.doors import Doors
from reference.worker.emulated.engine_loop import EngineLoop
from reference.worker.emulated.faults import Faults
from reference.worker.emulated.injections import Injection, Injections, read_injection
from reference.worker.emulated.requests import read_object

if TYPE_CHECKING:
    from aiohttp import web


class Control:
    """What can be done to one worker."""

    def __init__(self, loop: EngineLoop, faults: Faults, injections: Injections, doors: Callable[[], Doors]) -> None:
        self._loop = loop
        self._faults = faults
        self._injections = injections
        self._doors = doors
        self._slow = 1.0

    async def act(self, method: str, name: str, body: bytes) -> dict[str, Any]:
        """Carry out one call of a control route.

        Raises:
            ApiError: there is no such route, or what it was told makes no sense.
        """
        match method, name:
            case "GET", "inject":
                return {"under_way": self._injections.under_way()}
            case "DELETE", "inject":
                self._injections.clear()
                return {"under_way": []}
            case "POST", "inject":
                self._inject(read_injection(read_object(body)))
                return {"under_way": self._injections.under_way()}
            case "POST", "faults":
                return self._set_faults(read_object(body))
            case "POST", "slow":
                self._loop.slow(_number(read_object(body), "factor"))
                return {}
            case "POST", "stall":
                self._loop.stall(_number(read_object(body), "seconds"))
                return {}
            case "POST", "crash":
                os._exit(1)
        raise ApiError(404, f"there is no {method} /control/{name}; there are inject, faults, slow, stall and crash")

    def _inject(self, injection: Injection) -> None:
        match injection.fault:
            case "stall":
                self._loop.stall(injection.lasts)
            case "slow":
                self._slow *= injection.factor
                self._loop.slow(self._slow)
                asyncio.get_running_loop().call_later(injection.lasts, self._quicken, injection.factor)
            case "refuse":
                self._doors().close(injection.lasts)
            case _:
                self._injections.add(injection)

    def _quicken(self, factor: float) -> None:
        self._slow /= factor
        self._loop.slow(self._slow)

    def _set_faults(self, given: dict[str, Any]) -> dict[str, Any]:
        for name, value in given.items():
            if name not in Faults.__slots__:
                raise ApiError(400, f"there is no fault {name!r}; there are {', '.join(Faults.__slots__)}", param=name)
            setattr(self._faults, name, value)
        return {name: getattr(self._faults, name) for name in Faults.__slots__}


@asynccontextmanager
async def control_port(control: Control, host: str, port: int) -> AsyncIterator[None]:
    """Answer the control routes on a port of their own."""
    from aiohttp import web

    async def handle(request: web.Request) -> web.Response:
        try:
            told = await control.act(request.method, request.match_info["name"], await request.read())
        except ApiError as error:
            return web.Response(status=error.status, body=error.body, content_type="application/json")
        return web.Response(body=orjson.dumps(told), content_type="application/json")

    application = web.Application()
    application.router.add_route("*", "/control/{name}", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()


def _number(given: dict[str, Any], name: str) -> float:
    value = given.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ApiError(400, f"{name} is {value!r}; expected a number", param=name)
    return float(value)
