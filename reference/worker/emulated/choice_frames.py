"""Choices in OpenAI's shapes, whole and as frames of a stream, with their log probabilities."""

from __future__ import annotations

from typing import Any

from reference.wire.sse import event
from reference.worker.emulated.answers import WORDS
from reference.worker.emulated.choices import Choice


class ChoiceFrames:
    """Renders the choices of one request. `num_alternatives` of log probabilities; None: none are asked for."""

    def __init__(self, head: dict[str, Any], *, is_chat: bool, num_alternatives: int | None) -> None:
        self._head = head
        self._is_chat = is_chat
        self._num_alternatives = num_alternatives

    def whole(self, choice: Choice) -> dict[str, Any]:
        """Return a choice of an answer that is not streamed."""
        said = "".join(choice.pieces)
        logprobs = self._logprobs(choice.pieces, 0, choice.echo)
        if not self._is_chat:
            return _choice(choice, logprobs, choice.reason, text=choice.echo + said)
        message: dict[str, Any] = {"role": "assistant", "content": said, "refusal": None}
        if choice.call is not None:
            message["content"] = None
            is_old = choice.call.kind == "function_call"
            called = choice.call.filled(said)
            message |= {"function_call": called} if is_old else {"tool_calls": [called]}
        return _choice(choice, logprobs, choice.reason, message=message)

    def first(self, choice: Choice) -> bytes:
        """Return the frame that opens a choice: its role, the tool it calls, or the prompt."""
        if not self._is_chat:
            logprobs = self._logprobs((), 0, choice.echo)
            return self._frame(_choice(choice, logprobs, None, text=choice.echo)) if choice.echo else b""
        delta: dict[str, Any] = {"role": "assistant", "content": "" if choice.call is None else None}
        if choice.call is not None:
            delta |= self._called(choice, choice.call.opened())
        return self._frame(_choice(choice, None, None, delta=delta))

    def token(self, choice: Choice, position: int) -> bytes:
        """Return the frame of one token, empty when the choice has none there."""
        if position >= len(choice.pieces):
            return b""
        piece = choice.pieces[position]
        logprobs = self._logprobs((piece,), position, "")
        if not self._is_chat:
            return self._frame(_choice(choice, logprobs, None, text=piece))
        delta: dict[str, Any] = {"content": piece}
        if choice.call is not None:
            part = "input" if choice.call.kind == "custom" else "arguments"
            inner = {part: piece} if choice.call.kind == "function_call" else {choice.call.kind: {part: piece}}
            delta = self._called(choice, inner)
        return self._frame(_choice(choice, logprobs, None, delta=delta))

    def last(self, choice: Choice) -> bytes:
        """Return the frame that says why a choice ends."""
        ended: dict[str, Any] = {"delta": {}} if self._is_chat else {"text": ""}
        return self._frame(_choice(choice, None, choice.reason, **ended))

    def _called(self, choice: Choice, inner: dict[str, Any]) -> dict[str, Any]:
        if choice.call is not None and choice.call.kind == "function_call":
            return {"function_call": inner}
        return {"tool_calls": [{"index": 0, **inner}]}

    def _frame(self, choice: dict[str, Any]) -> bytes:
        return event({**self._head, "choices": [choice]})

    def _logprobs(self, pieces: tuple[str, ...], start: int, echo: str) -> dict[str, Any] | None:
        if self._num_alternatives is None:
            return None
        if self._is_chat:
            entries = [
                _entry(piece, place, _alternatives(place, self._num_alternatives))
                for place, piece in enumerate(pieces, start)
            ]
            return {"content": entries, "refusal": None}
        tokens = [*([echo] if echo else []), *pieces]
        return {
            "tokens": tokens,
            "token_logprobs": [_logprob(place) for place, _ in enumerate(tokens, start)],
            "top_logprobs": [
                {
                    text: _logprob(place) - more
                    for text, more in [(token, 0.0), *_alternatives(place, self._num_alternatives)]
                }
                for place, token in enumerate(tokens, start)
            ],
            "text_offset": [sum(map(len, tokens[:place])) for place in range(len(tokens))],
        }


def _choice(choice: Choice, logprobs: Any, reason: str | None, **said: Any) -> dict[str, Any]:
    return {"index": choice.index, **said, "logprobs": logprobs, "finish_reason": reason}


def _entry(piece: str, place: int, alternatives: list[tuple[str, float]]) -> dict[str, Any]:
    best = _logprob(place)
    told = [_plain(text, best - more) for text, more in [(piece, 0.0), *alternatives]][: len(alternatives)]
    return {**_plain(piece, best), "top_logprobs": told}


def _plain(piece: str, logprob: float) -> dict[str, Any]:
    return {"token": piece, "logprob": logprob, "bytes": list(piece.encode("utf-8", "surrogatepass"))}


def _logprob(place: int) -> float:
    """Return what the model thought of its token there: between 95 % and 40 %."""
    return -0.05 * (1 + place * 7 % 18)


def _alternatives(place: int, count: int) -> list[tuple[str, float]]:
    """Return other words and by how much less likely they were."""
    return [
        (f" {WORDS[(place + 1 + step) % len(WORDS)]}{'' if step < 11 else step}", 1.0 + step) for step in range(count)
    ]
