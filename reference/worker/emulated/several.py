"""Runs the choices of one request through the engine, all in the batch at once, and answers whole or as a stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from reference.engine import Rejected
from reference.wire.asgi import Send, respond
from reference.wire.errors import ApiError
from reference.wire.sse import DONE, event
from reference.worker.emulated.answers import usage_of
from reference.worker.emulated.choice_frames import ChoiceFrames
from reference.worker.emulated.choices import Choice
from reference.worker.emulated.engine_loop import EngineLoop, Tokens
from reference.worker.emulated.metrics import Timing

Survives = Callable[[int, Send], Awaitable[bool]]
"""Applies the faults before a token; false when the stream has been ended."""


class SeveralChoices:
    """One request with its choices. `run` once."""

    def __init__(
        self, loop: EngineLoop, model: str, body: dict[str, Any], choices: list[Choice], *, is_chat: bool
    ) -> None:
        self._loop = loop
        self._choices = choices
        self._is_stream = bool(body.get("stream"))
        self._wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        kind = ("chat.completion" + ".chunk" * self._is_stream) if is_chat else "text_completion"
        name = str(choices[0].sequence.request_id).rpartition("-")[0]
        self._head = {"id": name, "object": kind, "created": int(time.time()), "model": model}
        self._frames = ChoiceFrames(self._head, is_chat=is_chat, num_alternatives=_alternatives(body, is_chat))
        self._cached_tokens = 0
        self._has_begun = False
        self._has_ended = False

    async def run(self, send: Send, timing: Timing, survives: Survives) -> None:
        """Answer.

        Raises:
            ApiError: the engine does not take a prompt.
        """
        waiting = []
        for choice in self._choices:
            tokens = self._loop.submit(choice.sequence)
            if isinstance(tokens, Rejected):
                raise ApiError(tokens.status, tokens.reason, code="context_length_exceeded")
            waiting.append((choice, tokens))
        async with asyncio.TaskGroup() as group:
            for choice, tokens in waiting:
                watched = timing if choice.index == 0 else None
                group.create_task(self._follow(choice, tokens, send, watched, survives))
        if self._has_ended:
            return
        timing.finished(waiting[0][1].waited_seconds)
        if self._is_stream:
            usage = event({**self._head, "choices": [], "usage": self._usage()}) if self._wants_usage else b""
            await send({"type": "http.response.body", "body": usage + DONE})
            return
        told = [self._frames.whole(choice) for choice in self._choices]
        await respond(send, 200, orjson.dumps({**self._head, "choices": told, "usage": self._usage()}))

    async def _follow(
        self, choice: Choice, tokens: Tokens, send: Send, timing: Timing | None, survives: Survives
    ) -> None:
        """See one choice to its end, and stream it when it is to be streamed."""
        before = self._frames.first(choice)
        while True:
            emission = await tokens.get()
            if timing is not None:
                timing.token(emission.output_tokens, time.monotonic())
            if self._is_stream:
                await self._begin(send)
                if self._has_ended or not await survives(emission.output_tokens, send):
                    self._has_ended = True
                    return
                chunk = before + self._frames.token(choice, emission.output_tokens - 1)
                chunk += self._frames.last(choice) if emission.is_finished else b""
                before = b""
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if emission.is_finished:
                self._cached_tokens += emission.cached_tokens
                return

    async def _begin(self, send: Send) -> None:
        if not self._has_begun:
            self._has_begun = True
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})

    def _usage(self) -> dict[str, Any]:
        inputs = sum(choice.sequence.input_tokens for choice in self._choices)
        outputs = sum(len(choice.pieces) for choice in self._choices)
        return usage_of(inputs, outputs, self._cached_tokens)


def _alternatives(body: dict[str, Any], is_chat: bool) -> int | None:
    wanted = body.get("logprobs")
    if wanted is None or wanted is False:
        return None
    return int(body.get("top_logprobs") or 0) if is_chat else int(wanted)
