"""Open-loop replay of a workload against anything that speaks the OpenAI API, and the recorder of what came back.

`replay` sends every request when the workload says, whatever the server does, and `fill` puts what happened into a run
record. The sending is done by `e2e.replay.pilot`, a process of its own, which imports no more of this package than it
needs: hence the lazy names. Start at `launch`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from e2e.replay.launch import ReplayError, replay
    from e2e.replay.preflight import get_to_know, models_for, served_models
    from e2e.replay.result import ReplayResult, fill

_HOME = {
    "ReplayError": "launch",
    "ReplayResult": "result",
    "fill": "result",
    "get_to_know": "preflight",
    "models_for": "preflight",
    "replay": "launch",
    "served_models": "preflight",
}

__all__ = ["ReplayError", "ReplayResult", "fill", "get_to_know", "models_for", "replay", "served_models"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
