"""Answers with more to them than one choice of plain words.

Several choices or prompts, echoes, stop sequences, log probabilities, JSON, and calls of tools: what each choice says
is settled before the engine runs, which then takes the time for as many tokens. Start at `read_choices`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from reference.engine import Sequence
from reference.tokens import block_hashes, words_to_tokens
from reference.wire.errors import ApiError
from reference.worker.emulated.answers import word
from reference.worker.emulated.instances import instance_of
from reference.worker.emulated.requests import BEGIN_OF_TEXT, Bounds, chat_text

_PIECES = re.compile(r"\s*\S+|\s+$")
_WORDS = "air flow lift"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One choice: its sequence in the engine, and what it says, a piece a token."""

    index: int
    sequence: Sequence
    pieces: tuple[str, ...]
    reason: str
    """Why it ends."""
    echo: str = ""
    """The prompt, where it is to be said again."""
    call: Call | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that is called: `kind` is function, custom, or function_call for the way before tools."""

    kind: str
    name: str
    call_id: str

    def opened(self) -> dict[str, Any]:
        """Return it without its arguments."""
        return self.filled("")

    def filled(self, text: str) -> dict[str, Any]:
        """Return it with arguments."""
        if self.kind == "function_call":
            return {"name": self.name, "arguments": text}
        inner = {"name": self.name, "input" if self.kind == "custom" else "arguments": text}
        return {"id": self.call_id, "type": self.kind, self.kind: inner}


def has_more(body: dict[str, Any], *, is_chat: bool) -> bool:
    """Say whether a request asks for more than one choice of plain words."""
    if (body.get("n") or 1) > 1 or body.get("stop") or body.get("logprobs") not in (None, False):
        return True
    if is_chat:
        kind = (body.get("response_format") or {}).get("type", "text")
        return kind != "text" or _forced(body) is not None
    prompt = body.get("prompt")
    is_one = isinstance(prompt, str) or prompt is None
    return not is_one or bool(body.get("echo")) or body.get("max_tokens") == 0


def read_choices(request_id: str, body: dict[str, Any], *, is_chat: bool, block_size: int) -> list[Choice]:
    """Read a completion as its choices: each prompt as often as `n` says. The best of any number is the first.

    Raises:
        ApiError: 400, with the parameter at fault.
    """
    try:
        prompts = [chat_text(body)] if is_chat else _prompts(body.get("prompt"))
        found: list[Choice] = []
        for prompt in prompts:
            for _ in range(int(body.get("n") or 1)):
                found.append(_choice(f"{request_id}-{len(found)}", len(found), prompt, body, is_chat, block_size))
    except (KeyError, TypeError, AttributeError) as error:
        # a gateway has looked at every field before; who asks a worker directly is told as much
        raise ApiError(400, f"the body is not of OpenAI's form: {type(error).__name__}: {error}") from error
    return found


def _choice(name: str, index: int, prompt: str, body: dict[str, Any], is_chat: bool, block_size: int) -> Choice:
    tokens = words_to_tokens(prompt) or [BEGIN_OF_TEXT]
    bounds = Bounds.of(body)
    natural = bounds.output_tokens(prompt)
    call = _called(body, name) if is_chat else None
    said = _said(body, call)
    pieces = tuple(word(place) for place in range(natural)) if said is None else tuple(_PIECES.findall(said))
    reason = "stop" if call is None else "function_call" if call.kind == "function_call" else "tool_calls"
    pieces, is_stopped = _until_stop(pieces, body.get("stop"))
    if len(pieces) > bounds.max_tokens or (said is None and natural == bounds.max_tokens and not is_stopped):
        pieces, reason = pieces[: bounds.max_tokens], "length"
    if not is_chat and body.get("max_tokens") == 0:
        pieces, reason = (), "length"
    sequence = Sequence(name, len(tokens), max(1, len(pieces)), block_hashes(tokens, block_size), bounds.max_tokens)
    echo = prompt if not is_chat and body.get("echo") else ""
    return Choice(index=index, sequence=sequence, pieces=pieces, reason=reason, echo=echo, call=call)


def _prompts(given: Any) -> list[str]:
    """Return each prompt as words; tokens are words of digits."""
    if isinstance(given, list) and given:
        if isinstance(given[0], str):
            return [str(part) for part in given]
        lists = given if isinstance(given[0], list) else [given]
        return [" ".join(str(token) for token in tokens) for tokens in lists]
    return [given if isinstance(given, str) else ""]


def _said(body: dict[str, Any], call: Call | None) -> str | None:
    """Return the text where its form is asked for, None for plain words."""
    if call is not None:
        return _WORDS if call.kind == "custom" else json.dumps(instance_of(_parameters(body, call.name), _WORDS))
    form = body.get("response_format") or {}
    match form.get("type"):
        case "json_object":
            return json.dumps({"answer": _WORDS})
        case "json_schema":
            return json.dumps(instance_of(form["json_schema"].get("schema"), _WORDS))
    return None


def _called(body: dict[str, Any], name: str) -> Call | None:
    forced = _forced(body)
    return None if forced is None else Call(*forced, f"call-{name}")


def _forced(body: dict[str, Any]) -> tuple[str, str] | None:
    """Return the kind and name of the tool that has to be called; a model that may choose says words."""
    named = body.get("function_call")
    if isinstance(named, dict):
        return "function_call", str(named.get("name"))
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") != "allowed_tools":
        return choice["type"], choice[choice["type"]]["name"]
    tools = body.get("tools") or []
    is_forced = choice == "required" or (isinstance(choice, dict) and choice["allowed_tools"]["mode"] == "required")
    if not is_forced or not tools:
        return None
    return tools[0]["type"], tools[0][tools[0]["type"]]["name"]


def _parameters(body: dict[str, Any], name: str) -> Any:
    functions = [*(tool.get("function") for tool in body.get("tools") or []), *(body.get("functions") or [])]
    return next((one.get("parameters") for one in functions if one and one["name"] == name), {})


def _until_stop(pieces: tuple[str, ...], stop: Any) -> tuple[tuple[str, ...], bool]:
    """Cut what is said before the first stop sequence."""
    stops = [text for text in ([stop] if isinstance(stop, str) else stop or []) if text]
    text = "".join(pieces)
    ends = [at for at in (text.find(mark) for mark in stops) if at >= 0]
    if not ends:
        return pieces, False
    kept, left = [], min(ends)
    for piece in pieces:
        if left <= 0:
            break
        kept.append(piece[:left])
        left -= len(piece)
    return tuple(kept), True
