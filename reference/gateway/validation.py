"""Is the request one that OpenAI's API would take: its body against its route's schema, with the field at fault."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from reference.gateway.schema.chat import ChatRequest
from reference.gateway.schema.texts import ClassifyRequest, CompletionRequest, EmbeddingRequest
from reference.wire.errors import ApiError

REQUESTS: Mapping[str, TypeAdapter[Any]] = {
    "/v1/chat/completions": TypeAdapter(ChatRequest),
    "/v1/completions": TypeAdapter(CompletionRequest),
    "/v1/embeddings": TypeAdapter(EmbeddingRequest),
    "/v1/classify": TypeAdapter(ClassifyRequest),
}
"""The schema of each route's body."""


def read_request(path: str, raw: bytes) -> dict[str, Any]:
    """Read a request's body and check it for its route.

    Raises:
        ApiError: 400, with the parameter at fault.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"the body is not JSON: {error}", code="invalid_json") from error
    if not isinstance(body, dict):
        raise ApiError(400, f"the body is a JSON {type(body).__name__}; expected an object", code="invalid_json")
    try:
        # from the bytes: orjson has rounded whole numbers beyond 64 bits
        REQUESTS[path].validator.validate_json(raw)
    except ValidationError as invalid:
        raise _refusal(body, invalid) from None
    return body


def _refusal(body: Mapping[str, Any], invalid: ValidationError) -> ApiError:
    """Say of a body what is wrong with it: of several complaints the one that looked deepest.

    A value that may have several shapes is tried as each of them; the shape that it has is the one whose complaint is
    about a part of it.
    """
    problems = invalid.errors(include_url=False, include_context=True)
    places = [_place(body, problem) for problem in problems]
    deepest = max(places, key=lambda place: len(place[0]))
    param = _written(deepest[0])
    told = list(
        dict.fromkeys(_words(problem) for problem, place in zip(problems, places, strict=True) if place == deepest)
    )
    expected = " or ".join(told)
    is_missing = not deepest[1]
    shown = "is missing" if is_missing else f"is {_shown(_value(body, deepest[0]))}"
    code = "missing_required_parameter" if is_missing else "invalid_value"
    return ApiError(400, f"{param} {shown}; expected {expected}", param=param, code=code)


Place = tuple[tuple[str | int, ...], bool]
"""Keys and positions from the body down, and whether something is there."""


def _place(body: Mapping[str, Any], problem: Mapping[str, Any]) -> Place:
    """Return where a problem is. pydantic's location names alternatives, too; those are no part of the body."""
    found: list[str | int] = []
    value: Any = body
    for part in problem["loc"]:
        is_there = part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int)
        if is_there:
            found.append(part)
            value = value[part]
    if problem["type"] == "missing":
        return (*found, problem["loc"][-1]), False
    if problem["type"].startswith("union_tag") and isinstance(value, dict):
        name = problem["ctx"]["discriminator"].strip("'")
        return (*found, name), name in value
    return tuple(found), True


def _value(body: Any, place: tuple[str | int, ...]) -> Any:
    for part in place:
        body = body[part]
    return body


def _words(problem: Mapping[str, Any]) -> str:
    """Say what was expected, in words that go on after `expected`."""
    match problem["type"]:
        case "missing" | "union_tag_not_found":
            return "a value"
        case "too_short":
            return f"at least {problem['ctx']['min_length']}"
        case "too_long":
            return f"at most {problem['ctx']['max_length']}"
        case "extra_forbidden":
            return "no such field"
        case "union_tag_invalid":
            return f"one of {problem['ctx']['expected_tags']}"
        case "model_attributes_type" | "dict_type":
            return "an object"
    text: str = problem["msg"]
    return text.removeprefix("Input should be ").removeprefix("Input should ")


def _written(place: tuple[str | int, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".") or "body"


def _shown(value: Any) -> str:
    return "null" if value is None else reprlib.repr(value)
