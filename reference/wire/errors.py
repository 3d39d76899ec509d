"""OpenAI's error object, for every failure of every server.

ApiError                 answered with its status and the error object
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from reference.policy.retry import retry_after

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}
"""The `type` by status; 5xx are `server_error`."""


class ApiError(Exception):
    """A request that is answered with an error. `param` names the field at fault, `code` is for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after_seconds = retry_after_seconds

    @property
    def headers(self) -> dict[str, str]:
        """Return Retry-After in whole seconds, rounded up, when there is one."""
        if self.retry_after_seconds is None:
            return {}
        return {"retry-after": str(retry_after(self.retry_after_seconds))}

    @property
    def body(self) -> bytes:
        """Return the error object as JSON."""
        return orjson.dumps(error_object(self.status, self.message, param=self.param, code=self.code))


def error_object(
    status: int, message: str, *, param: str | None = None, code: str | None = None, kind: str | None = None
) -> dict[str, Any]:
    """Return `{"error": {...}}` with the type that belongs to a status."""
    return {
        "error": {
            "message": message,
            "type": kind or TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
            "param": param,
            "code": code,
        }
    }


def normalised(status: int, body: bytes) -> bytes:
    """Return a worker's error body as OpenAI's object.

    vLLM gives `code` as a number and a 401 as `{"error": "Unauthorized"}`; TensorRT-LLM gives the object on top level
    or `{"error": "text"}`. What is the right object already passes unchanged.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body[:300].decode("utf-8", "replace").strip()
        return orjson.dumps(error_object(status, text or f"the model server answered {status}"))
    inner = found.get("error") if isinstance(found, dict) else None
    if isinstance(inner, Mapping) and isinstance(inner.get("message"), str):
        if isinstance(inner.get("code"), str | None) and {"type", "param", "code"} <= inner.keys():
            return body
        return orjson.dumps(_from_fields(status, inner))
    if isinstance(found, dict) and isinstance(found.get("message"), str):
        return orjson.dumps(_from_fields(status, found))
    text = inner if isinstance(inner, str) else str(found.get("detail", "") if isinstance(found, dict) else found)
    return orjson.dumps(error_object(status, text or f"the model server answered {status}"))


_TOO_LONG = re.compile(r"context length|max_seq_len|max_num_tokens|max_model_len")
"""How vLLM and TensorRT-LLM say that a prompt is too long; OpenAI's clients look for a code."""


def _from_fields(status: int, fields: Mapping[str, Any]) -> dict[str, Any]:
    code = fields.get("code")
    kind = fields.get("type")
    if status == 400 and not isinstance(code, str) and _TOO_LONG.search(fields["message"]):
        code = "context_length_exceeded"
    return error_object(
        status,
        fields["message"],
        param=fields.get("param"),
        # a number there is the status again, which the status line says already
        code=code if isinstance(code, str) and not code.isdigit() else None,
        kind=kind if isinstance(kind, str) and "_" in kind else None,
    )
