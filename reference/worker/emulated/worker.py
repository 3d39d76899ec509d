"""One emulated worker: completions on the engine loop, with whatever is wrong with it and with the request."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from reference.engine import Emission, Engine, EngineSettings, Rejected, StepCost
from reference.wire.asgi import (
    JSON,
    ClientLeft,
    Receive,
    Scope,
    Send,
    read_body,
    respond,
    unless_client_leaves,
)
from reference.wire.errors import ApiError
from reference.wire.sse import DONE
from reference.wire.tracing import trace_headers
from reference.worker.emulated.answers import Frames, usage_of, whole_answer
from reference.worker.emulated.choices import has_more, read_choices
from reference.worker.emulated.doors import reset
from reference.worker.emulated.engine_loop import EngineLoop, Tokens
from reference.worker.emulated.faults import Faults
from reference.worker.emulated.injections import Injections, Trouble
from reference.worker.emulated.iterations import Iterations
from reference.worker.emulated.metrics import Timing, WorkerMetrics
from reference.worker.emulated.persona import PERSONAS
from reference.worker.emulated.requests import Ask, read_ask, read_object
from reference.worker.emulated.settings import EmulatedSettings
from reference.worker.emulated.several import SeveralChoices
from reference.worker.emulated.vectors import classify, embed

MAX_BODY_BYTES = 32 * 2**20
WRONG_BY_TOKENS = 1000
"""By how much usage is wrong where nothing else is said."""


class EmulatedWorker:
    """One worker: the engine, its loop, its metrics, its faults, and the routes that see all the traffic."""

    def __init__(self, settings: EmulatedSettings) -> None:
        self.settings = settings
        self.persona = PERSONAS[settings.persona]
        self.engine_settings = shape = EngineSettings(**settings.engine)
        engine = Engine(shape, StepCost.from_dict(settings.step_cost))
        self.iterations: Iterations | None = None
        if settings.persona == "trt":
            self.iterations = Iterations(
                engine, num_blocks=shape.num_blocks, block_size=shape.block_size, max_num_seqs=shape.max_num_seqs
            )
        self.loop = EngineLoop(engine, time.monotonic, self.iterations.note if self.iterations else None)
        self.faults = Faults()
        self.injections = Injections(time.monotonic)
        self.metrics = WorkerMetrics(engine, settings.model, shape.block_size, shape.num_blocks, settings.persona)
        self.ready_at = time.monotonic() + settings.start_seconds
        self._serial = 0

    @property
    def is_ready(self) -> bool:
        """Whether the cold start is over."""
        return time.monotonic() >= self.ready_at

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a completion, an embeddings request or a classification."""
        try:
            body = await read_body(receive, MAX_BODY_BYTES)
            await unless_client_leaves(receive, self._answer(scope, body, send))
        except ApiError as error:
            headers = [(name.encode(), value.encode()) for name, value in error.headers.items()]
            await respond(send, error.status, self.persona.error_body(error), [JSON, *headers])
        except ClientLeft:
            return

    async def _answer(self, scope: Scope, raw: bytes, send: Send) -> None:
        timing = Timing(self.metrics, time.monotonic())
        trouble = self.injections.take()
        await self.faults.before_answer()
        if trouble.delay:
            await asyncio.sleep(trouble.delay)
        if trouble.error is not None:
            raise trouble.error
        if self.faults.takes_error():
            raise ApiError(500, "an error on demand")
        if trouble.reset_after == 0:
            await reset(send)
            raise ClientLeft
        self._serial += 1
        body = read_object(raw)
        if self.persona.checks_model and body.get("model") != self.settings.model:
            raise ApiError(404, f"The model `{body.get('model')}` does not exist.", param="model")
        path = scope["path"]
        if path.endswith(("/embeddings", "/classify")):
            await self._vectors(path, body, send)
            return
        name = trace_headers(dict(scope["headers"]))[0].decode()
        await self._complete(name, body, send, timing, trouble, is_chat=path.endswith("/chat/completions"))

    async def _complete(
        self, name: str, body: dict[str, Any], send: Send, timing: Timing, trouble: Trouble, *, is_chat: bool
    ) -> None:
        request_id = f"{'chatcmpl' if is_chat else 'cmpl'}-{name}-{self._serial}"
        if has_more(body, is_chat=is_chat):
            await self._several(request_id, body, is_chat, send, timing, trouble)
            return
        ask = read_ask(request_id, body, is_chat=is_chat, block_size=self.engine_settings.block_size)
        if self.settings.request_seconds:
            await asyncio.sleep(self.settings.request_seconds)
        tokens = self.loop.submit(ask.sequence)
        if isinstance(tokens, Rejected):
            limit = self.engine_settings.max_model_len
            raise ApiError(tokens.status, f"This model's maximum context length is {limit} tokens: {tokens.reason}")
        came_at = time.monotonic()
        try:
            await _hang(trouble)
            if ask.is_stream:
                await self._stream(ask, tokens, send, timing, trouble)
            else:
                await self._whole(ask, tokens, send, timing, trouble)
        finally:
            self._release(request_id, came_at)

    async def _stream(self, ask: Ask, tokens: Tokens, send: Send, timing: Timing, trouble: Trouble) -> None:
        request_id = str(ask.sequence.request_id)
        frames = Frames(request_id, self.settings.model, int(time.time()), is_chat=ask.is_chat)
        emission = await tokens.get()
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        before = frames.first()
        while True:
            timing.token(emission.output_tokens, time.monotonic())
            if not await self._survives(trouble, emission.output_tokens, send):
                return
            chunk = before + frames.token(emission.output_tokens - 1)
            before = b""
            if emission.is_finished:
                break
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            emission = await tokens.get()
        reason = _reason(ask, emission)
        timing.finished(tokens.waited_seconds, reason)
        end = chunk + frames.last(reason)
        if ask.wants_usage:
            end += frames.usage(self._usage(ask, emission, trouble))
        await send({"type": "http.response.body", "body": end + DONE})

    async def _survives(self, trouble: Trouble, position: int, send: Send) -> bool:
        """Apply the faults of streams before a token; False when the stream has been ended."""
        faults = self.faults
        await faults.while_partitioned()
        if drip := faults.drip_seconds + trouble.drip:
            await asyncio.sleep(drip)
        if _is_beyond(position, faults.die_after_tokens, trouble.die_after):
            raise ConnectionResetError("a stream broken on demand")
        if _is_beyond(position, trouble.reset_after):
            await reset(send)
            return False
        if _is_beyond(position, faults.end_after_tokens, trouble.end_after):
            await send({"type": "http.response.body", "body": b""})
            return False
        return True

    async def _whole(self, ask: Ask, tokens: Tokens, send: Send, timing: Timing, trouble: Trouble) -> None:
        while True:
            emission = await tokens.get()
            timing.token(emission.output_tokens, time.monotonic())
            if emission.is_finished:
                break
        reason = _reason(ask, emission)
        timing.finished(tokens.waited_seconds, reason)
        if trouble.reset_after is not None:
            await reset(send)
            return
        body = whole_answer(
            str(ask.sequence.request_id),
            self.settings.model,
            int(time.time()),
            is_chat=ask.is_chat,
            output_tokens=emission.output_tokens,
            reason=reason,
            usage=self._usage(ask, emission, trouble),
        )
        if trouble.die_after is not None:
            await _respond_half(send, body)
        await respond(send, 200, body)

    async def _several(
        self, request_id: str, body: dict[str, Any], is_chat: bool, send: Send, timing: Timing, trouble: Trouble
    ) -> None:
        """Answer a completion that asks for more than one choice of plain words."""
        choices = read_choices(request_id, body, is_chat=is_chat, block_size=self.engine_settings.block_size)
        answer = SeveralChoices(self.loop, self.settings.model, body, choices, is_chat=is_chat)
        came_at = time.monotonic()
        try:
            await _hang(trouble)
            await answer.run(send, timing, partial(self._survives, trouble))
        finally:
            for choice in choices:
                self._release(choice.sequence.request_id, came_at)

    async def _vectors(self, path: str, body: dict[str, Any], send: Send) -> None:
        settings = self.settings
        if path.endswith("/classify"):
            name = f"classify-{self._serial}"
            answer = await classify(self.loop, name, settings.model, body, settings.labels)
        else:
            name = f"embd-{self._serial}"
            answer = await embed(self.loop, name, settings.model, body, may_be_base64=settings.base64_embeddings)
        await respond(send, 200, answer)

    def _release(self, request_id: str | int, came_at: float) -> None:
        """Let go of a sequence: at once, or when a server that only looks now and then would find its client gone."""
        if not self.persona.poll_seconds:
            self.loop.abort(request_id)
            return
        poll = self.persona.poll_seconds
        wait = poll - (time.monotonic() - came_at) % poll
        asyncio.get_running_loop().call_later(wait, self.loop.abort, request_id)

    def _usage(self, ask: Ask, emission: Emission, trouble: Trouble) -> dict[str, Any]:
        extra = trouble.extra_usage + WRONG_BY_TOKENS * self.faults.wrong_usage
        return usage_of(ask.sequence.input_tokens, emission.output_tokens + extra, emission.cached_tokens)


async def _hang(trouble: Trouble) -> None:
    """Say nothing of a request that the engine has, until its trouble is over."""
    if trouble.hangs_until:
        await asyncio.sleep(max(0.0, trouble.hangs_until - time.monotonic()))


async def _respond_half(send: Send, body: bytes) -> None:
    headers = [JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    raise ConnectionResetError("an answer broken on demand")


def _is_beyond(position: int, *limits: int | None) -> bool:
    return any(limit is not None and position > limit for limit in limits)


def _reason(ask: Ask, emission: Emission) -> str:
    return "length" if emission.output_tokens >= ask.max_tokens else "stop"
