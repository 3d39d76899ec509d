"""Whose wire an emulated worker answers on: what differs between vLLM's server and TensorRT-LLM's, as data.

Sources: vLLM's `vllm.entrypoints.openai` and TensorRT-LLM's `tensorrt_llm.serve.openai_server`, as they were in 2026.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from reference.wire.errors import ApiError

KINDS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    429: "RateLimitError",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
}
"""The `type` of an error by its status: names of Python's exceptions, not OpenAI's words."""


@dataclass(frozen=True, slots=True)
class Persona:
    """One kind of server."""

    name: str
    owner: str
    """`owned_by` of its models."""
    version: str
    error: Callable[[ApiError], dict[str, Any]]
    not_found: dict[str, Any]
    """What a path that it does not know is answered with, beside 404."""
    checks_model: bool
    """Whether a request for another model is refused."""
    has_vectors: bool
    """Whether it answers embeddings and classifications."""
    poll_seconds: float
    """How often it looks whether a client has left; 0: it is told at once."""

    def error_body(self, error: ApiError) -> bytes:
        """Return an error as this server tells it."""
        return orjson.dumps(self.error(error))


def _of_vllm(error: ApiError) -> dict[str, Any]:
    kind = KINDS.get(error.status, "InternalServerError" if error.status >= 500 else "BadRequestError")
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.status}}


def _of_trt(error: ApiError) -> dict[str, Any]:
    if error.status == 400 and error.param is not None:
        # its request types refuse with a text
        return {"error": error.message}
    kind = KINDS.get(error.status, "InternalServerError" if error.status >= 500 else "BadRequestError")
    return {"object": "error", "message": error.message, "type": kind, "param": None, "code": error.status}


PERSONAS = {
    "vllm": Persona(
        name="vllm",
        owner="vllm",
        version="0.11.0+emulated",
        error=_of_vllm,
        not_found={"error": {"message": "Not Found", "type": "Not Found", "param": None, "code": 404}},
        checks_model=True,
        has_vectors=True,
        poll_seconds=0.0,
    ),
    "trt": Persona(
        name="trt",
        owner="tensorrt_llm",
        version="1.2.0+emulated",
        error=_of_trt,
        not_found={"detail": "Not Found"},
        checks_model=False,
        has_vectors=False,
        poll_seconds=1.0,
    ),
}
