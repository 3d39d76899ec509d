"""What the serving benchmark compares with: relays in 20 lines, nginx, and the back end that all of them ask.

`python -m e2e.bench.peers --config FILE --port PORT`, with settings `{"kind": KIND, "upstream": URL}`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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
PACED = b'"user":"paced"'
EVENTS = [(b"content-type", b"text/event-stream")]


async def backend(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """Answer at once: whole, or in fifty chunks, which may be a millisecond apart."""
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
        if PACED in body:
            await asyncio.sleep(0.001)
    await send({"type": "http.response.body", "body": LAST})


def with_fastapi(upstream: str) -> Any:
    """Make the relay that anybody would write first, on the same libraries as ours."""
    sessions: list[aiohttp.ClientSession] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with session() as opened:
            sessions.append(opened)
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


def with_asgi(upstream: str) -> Any:
    """Make the same without a framework."""
    sessions: list[aiohttp.ClientSession] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] == "GET":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if not sessions:
            sessions.append(session())
        async with sessions[0].post(upstream + scope["path"], data=body) as answer:
            headers = [(b"content-type", answer.headers["content-type"].encode())]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return application


def session() -> aiohttp.ClientSession:
    """Make a client session without limits."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)


NGINX = """
worker_processes 1; master_process off; daemon off; pid {scratch}/pid; error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log {scratch}/access.log; client_body_temp_path {scratch}; proxy_temp_path {scratch};
  fastcgi_temp_path {scratch}; uwsgi_temp_path {scratch}; scgi_temp_path {scratch};
  upstream backend {{ server {upstream}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port};
    keepalive_requests 1000000;
    location = /readyz {{ return 200; }}
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""


def serve_with_nginx(upstream: str, port: int) -> None:
    """Run nginx, which knows nothing of language models, until it ends."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "nginx.conf"
        path.write_text(NGINX.format(scratch=scratch, upstream=urlsplit(upstream).netloc, port=port))
        subprocess.run(["nginx", "-p", scratch, "-c", str(path)], check=True)


def main() -> None:
    """Serve one of them."""
    _, config, _, port = sys.argv[1:]
    settings = json.loads(Path(config).read_text())
    kind, upstream = settings["kind"], settings.get("upstream", "")
    if kind == "nginx":
        serve_with_nginx(upstream, int(port))
        return
    application = {"backend": lambda _: backend, "fastapi": with_fastapi, "asgi": with_asgi}[kind](upstream)
    uvicorn.run(
        application,
        host="127.0.0.1",
        port=int(port),
        access_log=False,
        log_level="warning",
        ws="none",
        lifespan="on" if kind == "fastapi" else "off",
    )


if __name__ == "__main__":
    main()
