"""Is the request one that OpenAI's API would take: types and ranges of the fields we know, the rest passes through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reference.wire.errors import ApiError

Check = Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _between(low: float, high: float) -> Check:
    return lambda value: _is_number(value) and low <= value <= high


_SAMPLING: dict[str, tuple[Check, str]] = {
    "temperature": (_between(0, 2), "a number from 0 to 2"),
    "top_p": (_between(0, 1), "a number from 0 to 1"),
    "presence_penalty": (_between(-2, 2), "a number from -2 to 2"),
    "frequency_penalty": (_between(-2, 2), "a number from -2 to 2"),
    "n": (lambda value: _is_whole(value) and 1 <= value <= 128, "a whole number from 1 to 128"),
    "max_tokens": (lambda value: _is_whole(value) and value >= 1, "a whole number above 0"),
    "max_completion_tokens": (lambda value: _is_whole(value) and value >= 1, "a whole number above 0"),
    "seed": (_is_whole, "a whole number"),
    "stream": (lambda value: isinstance(value, bool), "true or false"),
    "user": (lambda value: isinstance(value, str), "a string"),
    "stop": (
        lambda value: (
            isinstance(value, str)
            or (isinstance(value, list) and len(value) <= 4 and all(isinstance(part, str) for part in value))
        ),
        "a string or up to 4 strings",
    ),
    "stream_options": (lambda value: isinstance(value, dict), "an object"),
    "logit_bias": (lambda value: isinstance(value, dict), "an object"),
}

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def validate(path: str, body: dict[str, Any]) -> str:
    """Check a request's body for its route; return the model it asks for.

    Raises:
        ApiError: 400, with the parameter at fault.
    """
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise ApiError(400, f"model is {model!r}; expected the name of a model", param="model", code="invalid_model")
    for name, (is_valid, expected) in _SAMPLING.items():
        value = body.get(name)
        if value is not None and not is_valid(value):
            raise ApiError(400, f"{name} is {value!r}; expected {expected}", param=name, code="invalid_value")
    if body.get("stream_options") is not None and not body.get("stream"):
        raise ApiError(400, "stream_options goes with stream: true only", param="stream_options", code="invalid_value")
    if path.endswith("/chat/completions"):
        _check_messages(body.get("messages"))
    elif path.endswith("/completions"):
        _check_texts(body.get("prompt"), "prompt")
    else:
        _check_texts(body.get("input"), "input")
    return model


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise ApiError(
            400, "messages is missing or empty; expected a list of messages", param="messages", code="invalid_value"
        )
    for place, message in enumerate(messages):
        at = f"messages[{place}]"
        if not isinstance(message, dict):
            raise ApiError(400, f"{at} is {message!r}; expected an object", param=at, code="invalid_type")
        if message.get("role") not in _ROLES:
            expected = ", ".join(_ROLES)
            raise ApiError(400, f"{at}.role is {message.get('role')!r}; expected one of {expected}", param=f"{at}.role")
        content = message.get("content")
        if content is None and message["role"] in ("assistant", "function"):
            continue
        if not isinstance(content, str | list):
            raise ApiError(400, f"{at}.content is {content!r}; expected text or parts", param=f"{at}.content")


def _check_texts(given: Any, name: str) -> None:
    """Text, a list of texts, tokens, or a list of token lists, none of them empty."""
    if isinstance(given, str) and given:
        return
    if isinstance(given, list) and given:
        if all(isinstance(part, str) for part in given) or all(_is_whole(part) for part in given):
            return
        if all(isinstance(part, list) and part and all(_is_whole(token) for token in part) for part in given):
            return
    raise ApiError(400, f"{name} is missing or of the wrong type; expected text, texts or tokens", param=name)
