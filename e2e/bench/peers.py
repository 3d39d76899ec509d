"""What the serving benchmark compares with: a back end that answers at once, and the floor, a relay in 20 lines.

`python -m e2e.bench.peers --config FILE --port PORT`; the floor is the one whose settings name an `upstream`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

NUM_CHUNKS = 50
USAGE = {"prompt_tokens": 10, "completion_tokens": NUM_CHUNKS, "total_tokens": NUM_CHUNKS + 10}
WHOLE = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "lift"}, "finish_reason": "stop"}],
        "usage": USAGE,
    }
).encode()
CHUNK = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":' + (
    b'[{"index":0,"delta":{"content":" lift"},"logprobs":null,"finish_reason":null}]}\n\n'
)
LAST = b'data: {"id":"chatcmpl-1","choices":[],"usage":' + json.dumps(USAGE).encode() + b"}\n\ndata: [DONE]\n\n"
GAUGES = b"vllm:num_requests_running 0\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0\n"
EVENTS = [(b"content-type", b"text/event-stream")]


async def backend(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """Answer at once: whole, or in fifty chunks with a turn of the loop between them."""
    import asyncio

    if scope["type"] != "http":
        return
    body = b""
    more = scope["method"] == "POST"
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if b'"stream":true' not in body:
        answer = WHOLE if body else GAUGES
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
        return
    await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
    for _ in range(NUM_CHUNKS):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
        await asyncio.sleep(0.001)
    await send({"type": "http.response.body", "body": LAST})


def floor(upstream: str) -> FastAPI:
    """Make the relay that anybody would write first, on the same libraries as ours."""
    sessions: list[aiohttp.ClientSession] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False) as session:
            sessions.append(session)
            yield

    application = FastAPI(lifespan=lifespan)

    @application.get("/readyz")
    async def ready() -> dict[str, bool]:
        return {"ready": True}

    @application.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        answer = await sessions[0].post(f"{upstream}/v1/chat/completions", data=await request.body())
        if answer.content_type == "text/event-stream":
            return StreamingResponse(answer.content.iter_any(), media_type="text/event-stream")
        return Response(await answer.read(), answer.status, media_type="application/json")

    return application


def main() -> None:
    """Serve one of them."""
    _, config, _, port = sys.argv[1:]
    upstream = json.loads(Path(config).read_text()).get("upstream")
    application: Any = floor(upstream) if upstream else backend
    lifespan: Any = "on" if upstream else "off"
    uvicorn.run(
        application,
        host="127.0.0.1",
        port=int(port),
        access_log=False,
        log_level="warning",
        ws="none",
        lifespan=lifespan,
    )


if __name__ == "__main__":
    main()
