"""A small OpenAI-like server for the tests of the sender: asyncio and nothing else, so that every byte is ours.

The model's name says what it does; `python sse_server.py [CERTIFICATE]` prints its port. Prompts are counted by words.
"""

import asyncio
import json
import os
import ssl
import sys

PREFILL_SECONDS = 0.08
GAP_SECONDS = 0.02
seen: list[dict] = []


def chunk(**delta) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"


def usage(words: int, tokens: int) -> bytes:
    details = {"cached_tokens": 16}
    told = {"prompt_tokens": words, "completion_tokens": tokens, "prompt_tokens_details": details}
    return b"data: " + json.dumps({"choices": [], "usage": told}).encode() + b"\n\n"


class Answer:
    """Writes one answer in HTTP chunks."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer

    async def begin(self, status: str = "200 OK", kind: str = "text/event-stream", more: str = "") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}"
        self.writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        await self.writer.drain()

    async def put(self, data: bytes) -> None:
        self.writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await self.writer.drain()

    async def put_raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def end(self) -> None:
        await self.put_raw(b"0\r\n\r\n")


async def plain(writer, status: str, body: object) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    await writer.drain()


async def steady(answer: Answer, words: int, tokens: int) -> None:
    await answer.begin(more="X-Windtunnel-Decision: endpoint=vllm-1; attempt=2; reason=least in flight\r\n")
    await answer.put(chunk(role="assistant", content=""))
    await asyncio.sleep(PREFILL_SECONDS)
    for number in range(tokens):
        if number:
            await asyncio.sleep(GAP_SECONDS)
        await answer.put(chunk(content="abcdefg "))
    await answer.put(usage(words, tokens) + b"data: [DONE]\n\n")
    await answer.end()


async def instant(answer: Answer, words: int, tokens: int) -> None:
    await answer.begin()
    await answer.put(chunk(content="abcdefg ") * tokens + usage(words, tokens) + b"data: [DONE]\n\n")
    await answer.end()


async def split(answer: Answer, words: int, tokens: int) -> None:
    """As `steady`, with comments and CRLF, cut anywhere: in the heads of HTTP chunks, in lines, in characters."""
    await answer.begin()
    await asyncio.sleep(PREFILL_SECONDS)
    events = [b": a comment\r\n\r\n", *(chunk(content="é words ").replace(b"\n", b"\r\n") for _ in range(tokens))]
    for event in (*events, usage(words, tokens) + b"data: [DONE]\r\n\r\n"):
        framed = f"{len(event):x}\r\n".encode() + event + b"\r\n"
        for start in range(0, len(framed), 7):
            await answer.put_raw(framed[start : start + 7])
            await asyncio.sleep(0.0005)
        await asyncio.sleep(GAP_SECONDS)
    await answer.end()


async def bundled(answer: Answer, words: int, tokens: int) -> None:
    """Two tokens a chunk, but for the first, which has four."""
    await answer.begin()
    for size in [4] + [2] * ((tokens - 4) // 2):
        await answer.put(chunk(content="abcdefg " * size))
        await asyncio.sleep(GAP_SECONDS)
    await answer.put(usage(words, tokens) + b"data: [DONE]\n\n")
    await answer.end()


async def error_event(answer: Answer, words: int, tokens: int) -> None:
    await answer.begin()
    await answer.put(chunk(content="abcdefg "))
    await answer.put(b'data: {"error": {"message": "the back end died", "code": "backend_lost"}}\n\n')
    await answer.end()


async def cut_short(answer: Answer, words: int, tokens: int) -> None:
    """A clean end of the message without [DONE]."""
    await answer.begin()
    await answer.put(chunk(content="abcdefg "))
    await answer.end()


async def reset(answer: Answer, words: int, tokens: int) -> None:
    await answer.begin()
    await answer.put(chunk(content="abcdefg "))
    await asyncio.sleep(0.01)
    answer.writer.transport.abort()


async def hangs_up(answer: Answer, words: int, tokens: int) -> None:
    answer.writer.transport.abort()


async def closes_mid_chunk(answer: Answer, words: int, tokens: int) -> None:
    await answer.begin()
    await answer.put_raw(b"ff\r\ndata: {")
    answer.writer.close()


async def stall(answer: Answer, words: int, tokens: int) -> None:
    await answer.begin()
    await answer.put(chunk(content="abcdefg "))
    await asyncio.sleep(30)


async def mute(answer: Answer, words: int, tokens: int) -> None:
    await asyncio.sleep(30)


async def dribble(answer: Answer, words: int, tokens: int) -> None:
    """Comments for ever, never a token."""
    await answer.begin()
    while True:
        await answer.put(b": still there\n\n")
        await asyncio.sleep(0.05)


async def no_token(answer: Answer, words: int, tokens: int) -> None:
    await answer.begin()
    await answer.put(chunk(role="assistant", content="") + b"data: [DONE]\n\n")
    await answer.end()


async def garbage(answer: Answer, words: int, tokens: int) -> None:
    await answer.begin()
    await answer.put(b"data: {not json\n\n")
    await answer.end()


REFUSALS = {
    "limited": ("429 Too Many Requests", {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}),
    "full": ("503 Service Unavailable", {"error": {"message": "queue full", "type": "overloaded", "code": 503}}),
    "broken": ("500 Internal Server Error", b"<html>oops</html>"),
    # a status may bring more lines of the head
    "come_later": ("429 Too Many Requests\r\nRetry-After: 1", {"error": {"message": "come in a second"}}),
    "not_http": ("", b""),
}
BEHAVIOURS = {
    behaviour.__name__: behaviour
    for behaviour in (
        *(steady, instant, split, bundled, error_event, cut_short, reset, hangs_up, closes_mid_chunk),
        *(stall, mute, dribble, no_token, garbage),
    )
}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await one(reader, writer):
            pass
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _ = first.split(" ")
    if method == "GET" and path == "/v1/models":
        await plain(writer, "200 OK", {"data": [{"id": name} for name in (*BEHAVIOURS, *REFUSALS)]})
        return True
    if method == "GET" and path == "/seen":
        await plain(writer, "200 OK", seen)
        return True
    if method != "POST":
        await plain(writer, "404 Not Found", {"error": {"message": "no such path"}})
        return True
    asked = json.loads(body)
    words = sum(len(message["content"].split()) for message in asked["messages"])
    if len(seen) < 1000:
        seen.append({"path": path, "headers": headers, "body": asked})
    model, tokens = asked["model"], asked["max_tokens"]
    if not asked.get("stream"):
        # what a template and a real tokenizer make of it
        await plain(writer, "200 OK", {"usage": {"prompt_tokens": 10 + 3 * words, "completion_tokens": 1}})
    elif model == "not_http":
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")
        return False
    elif model in REFUSALS:
        await plain(writer, *REFUSALS[model])
    else:
        await BEHAVIOURS[model](Answer(writer), words, tokens)
    return not writer.transport.is_closing()


async def main() -> None:
    tls = None
    if len(sys.argv) > 1:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(sys.argv[1])
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**24, ssl=tls)
    print(server.sockets[0].getsockname()[1], flush=True)
    # ends with its parent
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
