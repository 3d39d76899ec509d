"""What hot routes need of ASGI: reading a bounded body, answering, and noticing that a client has left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, TypeVar

from reference.wire.errors import ApiError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

Result = TypeVar("Result")

JSON = (b"content-type", b"application/json")


class ClientLeft(Exception):
    """The client closed the connection before its answer was complete."""


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """Read a request's body whole.

    Raises:
        ApiError: 413, it is larger than allowed. ClientLeft: it never came whole.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        part = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise ApiError(413, f"the body is larger than {max_bytes:,} bytes", code="request_too_large")
        if not message.get("more_body"):
            return b"".join([*parts, part]) if parts else part
        parts.append(part)


async def respond(send: Send, status: int, body: bytes, headers: Headers | None = None) -> None:
    """Send a whole answer; JSON unless the headers say otherwise."""
    given = headers or []
    if not any(name == b"content-type" for name, _ in given):
        given = [JSON, *given]
    await send(
        {"type": "http.response.start", "status": status, "headers": [*given, (b"content-length", b"%d" % len(body))]}
    )
    await send({"type": "http.response.body", "body": body})


async def respond_error(send: Send, error: ApiError, headers: Headers | None = None) -> None:
    """Send an error object with its status and headers."""
    own = [(name.encode(), value.encode()) for name, value in error.headers.items()]
    await respond(send, error.status, error.body, [*own, *(headers or [])])


async def unless_client_leaves(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Do the work, and cancel it at once when the client goes, whatever phase it is in.

    The work runs in the caller's task; only the watch for the client is a task of its own.

    Raises:
        ClientLeft: the client went first.
    """
    task = asyncio.current_task()
    assert task is not None
    watch = asyncio.ensure_future(_cancel_when_disconnected(receive, task))
    try:
        return await work
    except asyncio.CancelledError:
        if watch.done() and not watch.cancelled() and task.uncancel() == 0:
            raise ClientLeft from None
        raise
    finally:
        watch.cancel()


async def _cancel_when_disconnected(receive: Receive, task: asyncio.Task[Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    # servers say so, too, when the answer is complete: then the work is as good as done
    await asyncio.sleep(0)
    task.cancel()
