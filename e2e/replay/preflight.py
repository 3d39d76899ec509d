"""Before anything is sent: is the endpoint there, which models does it serve, and what is a word worth there.

Plain blocking calls with the standard library, in the caller's process.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from secrets import randbits
from typing import Any

from e2e.replay.address import Address, address_of
from e2e.replay.prompts import UNIQUE_KEYS, Wording, words_of
from e2e.replay.sse import reason_of
from sim.experiment.errors import InputError

TIMEOUT_SECONDS = 10.0
PROBE_SECONDS = 60.0
"""A cold engine may compile something for its first request."""
PROBE_WORDS = (16, 144)
EXACTLY_ONE = {"min_tokens": 1, "ignore_eos": True}


@dataclass(frozen=True, slots=True)
class Acquaintance:
    """What two questions have told of an endpoint."""

    wording: Wording
    takes_exact_lengths: bool
    """Whether it knows `min_tokens` and `ignore_eos`."""


def served_models(base_url: str, api_key: str | None = None, *, verify_tls: bool = True) -> tuple[str, ...]:
    """Ask an endpoint which models it serves.

    Raises:
        InputError: nobody answers there, or not as an OpenAI-compatible server does.
    """
    return tuple(str(model["id"]) for model in _models(base_url, api_key, verify_tls))


def max_model_len(base_url: str, model: str, api_key: str | None = None, *, verify_tls: bool = True) -> int | None:
    """Ask how many tokens a prompt and its answer may have together, which vLLM tells; None where nothing is told.

    Raises:
        InputError: nobody answers there, or not as an OpenAI-compatible server does.
    """
    told = [entry.get("max_model_len") for entry in _models(base_url, api_key, verify_tls) if entry["id"] == model]
    return next((found for found in told if isinstance(found, int) and found > 0), None)


def _models(base_url: str, api_key: str | None, verify_tls: bool) -> list[dict[str, Any]]:
    address = address_of(base_url)
    where = f"{address.url}/v1/models"
    status, body = _ask(address, "GET", "/v1/models", None, api_key, verify_tls, TIMEOUT_SECONDS)
    if status in (401, 403):
        hint = "the API key is not accepted" if api_key else "it wants an API key: --api-key or WINDTUNNEL_API_KEY"
        raise InputError(f"{where}: answered {status}; {hint}")
    data = body.get("data") if isinstance(body, dict) else None
    if status != 200 or not isinstance(data, list):
        raise InputError(f"{where}: answered {status}; expected an OpenAI-compatible server's list of models")
    return [model for model in data if isinstance(model, dict) and "id" in model]


def models_for(wanted: Sequence[str], served: Sequence[str], override: str | None, base_url: str) -> dict[str, str]:
    """Map each model of a workload to one that is served: itself, or the one that the user names for all.

    Raises:
        InputError: a model is not served there, with the nearest that is.
    """
    mapped = {model: override or model for model in wanted}
    for model in mapped.values():
        if model not in served:
            close = get_close_matches(model, served, 1, 0.3)
            hint = f"did you mean --model {close[0]}?" if close else "choose one with --model"
            offer = ", ".join(served) or "no model at all"
            raise InputError(f"{base_url}: does not serve {model!r}; it serves {offer} ({hint})")
    return mapped


def get_to_know(base_url: str, model: str, api_key: str | None = None, *, verify_tls: bool = True) -> Acquaintance:
    """Ask two short questions of different length, and learn from the answers how words become tokens there.

    Raises:
        InputError: the endpoint does not answer a completion, with what it said.
    """
    ask = partial(_question, address_of(base_url), model, api_key, verify_tls)
    status, _ = ask(PROBE_WORDS[0], EXACTLY_ONE)
    takes_exact_lengths = status == 200
    counted = [_prompt_tokens(base_url, *ask(words, {})) for words in PROBE_WORDS]
    return Acquaintance(_wording(*counted), takes_exact_lengths)


def _wording(few: int | None, many: int | None) -> Wording:
    if few is None or many is None or many <= few:
        return Wording()
    per_word = (many - few) / (PROBE_WORDS[1] - PROBE_WORDS[0])
    return Wording(per_word, max(0.0, few - per_word * PROBE_WORDS[0]))


def _question(
    address: Address, model: str, api_key: str | None, verify_tls: bool, words: int, more: Mapping[str, Any]
) -> tuple[int, Any]:
    text = words_of(UNIQUE_KEYS + randbits(40), words).decode()
    question = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 1, **more}
    body = json.dumps(question).encode()
    return _ask(address, "POST", "/v1/chat/completions", body, api_key, verify_tls, PROBE_SECONDS)


def _prompt_tokens(base_url: str, status: int, answer: Any) -> int | None:
    if status != 200:
        said = reason_of(answer) or "nothing more"
        raise InputError(f"{base_url}: /v1/chat/completions answered {status} to a first question: {said}")
    usage: Mapping[str, Any] = (answer.get("usage") if isinstance(answer, dict) else None) or {}
    tokens = usage.get("prompt_tokens")
    return tokens if isinstance(tokens, int) and tokens > 0 else None


def _ask(
    address: Address,
    method: str,
    path: str,
    body: bytes | None,
    api_key: str | None,
    verify_tls: bool,
    timeout: float,
) -> tuple[int, Any]:
    headers = {"Accept": "application/json"} | ({"Content-Type": "application/json"} if body else {})
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    connection = _connection(address, verify_tls, timeout)
    try:
        connection.request(method, f"{address.prefix}{path}", body, headers)
        answer = connection.getresponse()
        told = answer.read(1 << 20)
        status = answer.status
    except ConnectionRefusedError as error:
        raise InputError(f"{address.url}: connection refused; is a server running there?") from error
    except TimeoutError as error:
        raise InputError(f"{address.url}: no answer in {timeout:g} s") from error
    except ssl.SSLCertVerificationError as error:
        raise InputError(f"{address.url}: {error.verify_message}; --insecure trusts any certificate") from error
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"{address.url}: {getattr(error, 'strerror', None) or error}") from error
    finally:
        connection.close()
    try:
        return status, json.loads(told)
    except ValueError:
        return status, None


def _connection(address: Address, verify_tls: bool, timeout: float) -> http.client.HTTPConnection:
    if not address.is_tls:
        return http.client.HTTPConnection(address.host, address.port, timeout=timeout)
    return http.client.HTTPSConnection(address.host, address.port, timeout=timeout, context=tls_context(verify_tls))


def tls_context(verify: bool) -> ssl.SSLContext:
    """Make a context that trusts the system's authorities, or anybody."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
