"""What an engine is to its worker: a command, a health path, a first request, and a way to its metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp


class EngineMetrics(Protocol):
    """The way to one engine's metrics, for as long as it runs."""

    async def run(self) -> None:
        """Watch the engine as long as it is ready; cancelled when it is not any more."""

    async def page(self) -> bytes:
        """Return what the engine has to say in Prometheus' text format; empty when it does not answer."""


@dataclass(frozen=True, slots=True)
class FirstRequest:
    """What is asked before the worker is ready: one real token, or one real vector."""

    path: str
    body: Mapping[str, Any]
    proves: Callable[[Any], bool]
    """Whether an answer shows that the model has computed something."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One kind of engine."""

    name: str
    command: Callable[[int], Sequence[str]]
    """The command line, by the port it is to listen on."""
    metrics: Callable[[aiohttp.ClientSession, str, Callable[[], int]], EngineMetrics]
    """By a client session, the engine's URL, and a way to ask how many requests are relayed to it."""
    first_request: FirstRequest
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that it needs, under those of the settings."""
    hot_paths: tuple[str, ...] = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/classify")
    health_path: str = "/health"


def first_token(model: str) -> FirstRequest:
    """Ask for one token of text."""
    body = {"model": model, "prompt": "hello", "max_tokens": 1, "temperature": 0}
    return FirstRequest("/v1/completions", body, _has_token)


def first_vector(model: str) -> FirstRequest:
    """Ask for one vector."""
    return FirstRequest("/v1/embeddings", {"model": model, "input": "hello"}, _has_vector)


def _has_token(answer: Any) -> bool:
    usage = answer.get("usage") if isinstance(answer, dict) else None
    return isinstance(usage, dict) and usage.get("completion_tokens", 0) >= 1


def _has_vector(answer: Any) -> bool:
    data = answer.get("data") if isinstance(answer, dict) else None
    return isinstance(data, list) and bool(data) and bool(data[0].get("embedding"))
