"""What the router reads of a request: which model, and what a policy may know of it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import orjson

from reference.policy.view import RequestView
from reference.tokens import block_hashes, words_to_tokens
from reference.wire.errors import ApiError

TENANT = b"x-windtunnel-tenant"
CLASS = b"x-windtunnel-class"
PRIORITY = b"x-windtunnel-priority"
SESSION = b"x-windtunnel-session"
DEADLINE = b"x-windtunnel-deadline-seconds"
"""Seconds from now in which the client wants its first token."""


def read_object(raw: bytes) -> dict[str, Any]:
    """Read a body as a JSON object.

    Raises:
        ApiError: 400, it is none.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"the body is not JSON: {error}", code="invalid_json") from error
    if not isinstance(body, dict):
        raise ApiError(400, f"the body is a JSON {type(body).__name__}; expected an object", code="invalid_json")
    return body


def view_of(
    request_id: str,
    body: dict[str, Any],
    headers: Iterable[tuple[bytes, bytes]],
    block_size: int,
    *,
    hashes_prompts: bool,
) -> RequestView:
    """Return what policies may know of a request. Words stand for tokens: the router has no tokenizer.

    Raises:
        ApiError: 400, a header is not a number.
    """
    told = {name: value for name, value in headers if name.startswith(b"x-windtunnel-")}
    now = time.monotonic()
    text = prompt_text(body)
    deadline = told.get(DEADLINE)
    max_tokens = body.get("max_completion_tokens") or body.get("max_tokens")
    session = told.get(SESSION) or str(body.get("user") or "").encode()
    return RequestView(
        request_id,
        str(body.get("model")),
        now,
        text.count(" ") + 1,
        max_tokens if isinstance(max_tokens, int) else None,
        block_hashes(words_to_tokens(text), block_size) if hashes_prompts else (),
        told.get(TENANT, b"default").decode("latin-1"),
        told.get(CLASS, b"default").decode("latin-1"),
        int(_number(told.get(PRIORITY, b"0"), PRIORITY)),
        session.decode("utf-8", "replace") or None,
        None if deadline is None else now + _number(deadline, DEADLINE),
    )


def prompt_text(body: dict[str, Any]) -> str:
    """Return the text of a prompt, chat or plain, as far as it is text."""
    messages = body.get("messages")
    if isinstance(messages, list):
        return " ".join(_content(message) for message in messages)
    prompt = body.get("prompt", body.get("input", ""))
    if isinstance(prompt, list):
        return " ".join(str(part) for part in prompt)
    return str(prompt)


def _content(message: Any) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _number(value: bytes, header: bytes) -> float:
    try:
        return float(value)
    except ValueError:
        raise ApiError(400, f"{header.decode()} is {value!r}; expected a number", param=header.decode()) from None
