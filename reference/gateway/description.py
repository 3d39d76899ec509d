"""The gateway's openapi.json: written from the types that requests are validated by, so that it says what is so."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from reference.gateway.schema import answers
from reference.gateway.validation import REQUESTS

_ANSWERS: dict[str, tuple[str, type]] = {
    "/v1/chat/completions": ("Answers a chat.", answers.ChatCompletion),
    "/v1/completions": ("Continues a text.", answers.Completion),
    "/v1/embeddings": ("Makes a vector of each text.", answers.Embeddings),
    "/v1/classify": ("Gives each text a label.", answers.Classifications),
}
_STREAMS = ("/v1/chat/completions", "/v1/completions")
_STREAM = """Events with `data:` and a chunk of the answer each; after the last one `data: [DONE]`. A stream that cannot
be finished ends with an event that is an error object, and without `[DONE]`."""
_FAILURES = {
    "400": "The request is not valid; `param` names the field.",
    "401": "There is no valid key.",
    "403": "The key may not use this model.",
    "404": "There is no such model.",
    "413": "The body is too large.",
    "415": "The body is no JSON.",
    "429": "A limit has been reached, or a queue is full; Retry-After says when to come back.",
    "500": "The server or the model made a mistake.",
    "502": "The model cannot be reached.",
    "503": "Nobody serves the model now.",
    "504": "It took longer than a request may take.",
}
_OF_GET = ("401", "404", "502")


def description(title: str, version: str, *, needs_key: bool) -> dict[str, Any]:
    """Return the document. `needs_key` is whether the gateway has keys."""
    wanted: list[tuple[str, Any]] = [(path, adapter) for path, adapter in REQUESTS.items()]
    wanted += [(f"answer of {path}", TypeAdapter(kind)) for path, (_, kind) in _ANSWERS.items()]
    wanted += [(name, TypeAdapter(getattr(answers, name))) for name in ("Error", "Models", "ModelEntry")]
    refs, rest = TypeAdapter.json_schemas(
        [(name, "validation", adapter) for name, adapter in wanted], ref_template="#/components/schemas/{model}"
    )
    schema_of = {name: schema for (name, _), schema in refs.items()}
    paths: dict[str, Any] = {path: {"post": _post(path, schema_of)} for path in REQUESTS}
    paths["/v1/models"] = {
        "get": _get("Lists the models that the key may use.", "listModels", schema_of["Models"], schema_of)
    }
    one = _get("Tells of one model.", "retrieveModel", schema_of["ModelEntry"], schema_of)
    named = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    paths["/v1/models/{model}"] = {"get": {**one, "parameters": [named]}}
    components = {"schemas": rest["$defs"], "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths | _unguarded(),
        "components": components,
        "security": [{"key": []}] if needs_key else [],
    }


def _post(path: str, schema_of: dict[str, Any]) -> dict[str, Any]:
    about, _ = _ANSWERS[path]
    content: dict[str, Any] = {"application/json": {"schema": schema_of[f"answer of {path}"]}}
    if path in _STREAMS:
        content["text/event-stream"] = {"schema": {"description": _STREAM}}
    return {
        "summary": about,
        "operationId": path.removeprefix("/v1/").replace("/", "_"),
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema_of[path]}}},
        "responses": {"200": {"description": about, "content": content}} | _failures(_FAILURES, schema_of),
    }


def _get(about: str, name: str, schema: Any, schema_of: dict[str, Any]) -> dict[str, Any]:
    answer = {"description": about, "content": {"application/json": {"schema": schema}}}
    failures = _failures({status: _FAILURES[status] for status in _OF_GET}, schema_of)
    return {"summary": about, "operationId": name, "responses": {"200": answer} | failures}


def _failures(told: dict[str, str], schema_of: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema_of["Error"]}}
    return {status: {"description": about, "content": content} for status, about in told.items()}


def _unguarded() -> dict[str, Any]:
    """Describe the routes that need no key: probes and metrics."""
    probe = {"200": {"description": "It is."}}
    metrics = {
        "200": {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    }
    told = {
        "/healthz": ("Whether the server is alive.", probe),
        "/readyz": ("Whether the router behind it is ready.", probe | {"503": {"description": "It is not."}}),
        "/metrics": ("Metrics.", metrics),
    }
    return {
        path: {"get": {"summary": about, "operationId": path[1:], "security": [], "responses": responses}}
        for path, (about, responses) in told.items()
    }
