"""The settings of an emulated worker."""

from __future__ import annotations

from typing import Any, Literal

from reference.wire.settings import ServerSettings


class EmulatedSettings(ServerSettings):
    """Settings of an emulated worker. `step_cost` and `engine` as the simulator uses them for the same replica."""

    model: str
    """The model's name."""
    persona: Literal["vllm", "trt"] = "vllm"
    """Whose wire it answers on: routes, metric names, shapes of errors."""
    step_cost: dict[str, Any]
    """What a step costs: the fields of `reference.engine.StepCost`."""
    engine: dict[str, Any]
    """The fields of `reference.engine.EngineSettings`."""
    request_seconds: float = 0.0
    """What a request waits before the engine has it, as parsing and tokenising take."""
    start_seconds: float = 0.0
    """Cold start: not ready for so long."""
    labels: tuple[str, ...] = ("calm", "gusty")
    """What `/v1/classify` chooses among."""
    base64_embeddings: bool = True
    """Whether embeddings come as base64 to who asks for it; engines that do not know it answer numbers."""
    perf_metrics: bool = True
    """Of `trt`: whether there is a page `/prometheus/metrics`, as with `return_perf_metrics`."""
    control: bool = False
    """Whether the control routes are among the others, through which faults are set."""
    control_port: int = 0
    """A port of their own for the control routes, on which they answer whatever is wrong; 0: none."""
