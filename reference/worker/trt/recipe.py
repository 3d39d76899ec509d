"""`trtllm-serve` as a supervised engine: its command line, the options that make it tell its metrics."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from pydantic import Field

from reference.worker.supervised.recipe import Recipe, first_token, first_vector
from reference.worker.supervised.settings import SupervisedSettings
from reference.worker.trt.metrics import TrtMetrics

TELLS_METRICS = {"enable_iter_perf_stats": True, "return_perf_metrics": True}
"""Without the first `/metrics` stays empty, without the second there is no `/prometheus/metrics`."""


class TrtSettings(SupervisedSettings):
    """Settings of a trt worker."""

    program: str = "trtllm-serve"
    """The program, or the path to it."""
    tp_size: int = Field(1, ge=1)
    """GPUs of one replica."""
    max_seq_len: int | None = Field(None, ge=1)
    """The longest context; none: the model's own."""
    max_batch_size: int | None = Field(None, ge=1)
    """The largest batch; none: TensorRT-LLM's default."""
    kv_cache_free_gpu_memory_fraction: float | None = Field(None, gt=0, le=1)
    """The share of the memory that is left after the weights; none: TensorRT-LLM's default."""
    options: dict[str, Any] = Field(default_factory=dict)
    """More of its LLM API's options, as in the file that it takes with --extra_llm_api_options."""


def trt_recipe(settings: TrtSettings) -> Recipe:
    """Return how `trtllm-serve` is started and spoken to."""
    options = _options_file(settings)

    def command(port: int) -> list[str]:
        started = [settings.program, settings.model_dir, "--served_model_name", settings.model]
        started += ["--host", "127.0.0.1", "--port", str(port), "--tp_size", str(settings.tp_size)]
        for name in ("max_seq_len", "max_batch_size", "kv_cache_free_gpu_memory_fraction"):
            value = getattr(settings, name)
            if value is not None:
                started += [f"--{name}", str(value)]
        return [*started, "--extra_llm_api_options", str(options), *settings.arguments]

    first = first_token if settings.task == "generate" else first_vector
    return Recipe("trt", command, TrtMetrics, first(settings.model))


def _options_file(settings: TrtSettings) -> Path:
    """Write the options where the engine reads them: JSON, which is YAML."""
    path = Path(tempfile.mkdtemp(prefix="trt-")) / "options.yaml"
    path.write_text(json.dumps({**TELLS_METRICS, **settings.options}))
    return path
