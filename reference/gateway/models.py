"""The names of models: which of them a caller sees, what an alias stands for, and when its next model is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from reference.gateway.authentication import Caller
from reference.wire.relay import Ending, Relayed

Aliases = Mapping[str, Sequence[str]]
"""The models that a name stands for, the preferred one first. A model's own name may have some, too."""

AWAY = (502, 503)
"""What a router answers for a pool in which nobody can serve."""


def bodies_for(aliases: Aliases, model: str, body: dict[str, Any], raw: bytes) -> Iterable[bytes]:
    """Yield the body to send for each model that a name stands for; as it came, unless the name is another."""
    for target in aliases.get(model, (model,)):
        yield raw if target == model else orjson.dumps({**body, "model": target})


def is_away(relayed: Relayed) -> bool:
    """Say whether a model is not there to answer, and nothing of an answer has been sent: another one may be asked.

    A full queue (429) is no such thing: it would move a rush from one pool to the next.
    """
    if relayed.ending is not Ending.ERROR_STATUS:
        return False
    return relayed.status in AWAY or (relayed.status == 404 and b'"model_not_found"' in relayed.body)


def models_of(caller: Caller, served: Sequence[dict[str, Any]], aliases: Aliases) -> list[dict[str, Any]]:
    """Return what `/v1/models` tells a caller: the models that are served, and the aliases of one that is."""
    by_name = {entry["id"]: entry for entry in served}
    for alias, targets in aliases.items():
        first = next((by_name[target] for target in targets if target in by_name), None)
        if first is not None:
            by_name.setdefault(alias, {**first, "id": alias})
    return [entry for name, entry in by_name.items() if caller.may_use(name)]
