"""vLLM as a supervised engine: its command line, its environment, and its metrics page as it is."""

from __future__ import annotations

import sys
from collections.abc import Callable

import aiohttp
from pydantic import Field

from reference.worker.supervised.recipe import Recipe, first_token, first_vector
from reference.worker.supervised.settings import SupervisedSettings

PAGE_SECONDS = 2.0
ENVIRONMENT = {
    # weights come from a volume: a hub that cannot be reached must not delay a start, nor one that can change it
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    # its processes talk to each other on this host only; tensor parallelism over several hosts sets its own
    "VLLM_HOST_IP": "127.0.0.1",
}


class VllmSettings(SupervisedSettings):
    """Settings of a vllm worker. What vLLM has an own name for is set by that name."""

    python: str = sys.executable
    """The Python that vLLM is installed for."""
    dtype: str = "auto"
    """What the model computes in."""
    max_model_len: int | None = Field(None, ge=1)
    """The longest context; none: the model's own."""
    tensor_parallel_size: int = Field(1, ge=1)
    """GPUs of one replica."""
    gpu_memory_utilization: float | None = Field(None, gt=0, le=1)
    """The share of a GPU's memory that it may take; none: vLLM's default."""


class PassedThrough:
    """vLLM's metrics page, passed on as it is."""

    def __init__(self, session: aiohttp.ClientSession, url: str, _: Callable[[], int]) -> None:
        self._session = session
        self._url = url

    async def run(self) -> None:
        """Nothing has to be watched: the page keeps itself."""

    async def page(self) -> bytes:
        """Return the page; empty when the engine does not answer."""
        try:
            timeout = aiohttp.ClientTimeout(total=PAGE_SECONDS)
            async with self._session.get(f"{self._url}/metrics", timeout=timeout) as answer:
                return await answer.read() if answer.status == 200 else b""
        except (aiohttp.ClientError, OSError, TimeoutError):
            return b""


def vllm_recipe(settings: VllmSettings) -> Recipe:
    """Return how vLLM is started and spoken to."""

    def command(port: int) -> list[str]:
        # the module, because distributions of vLLM for other devices have another name for the program
        started = [settings.python, "-m", "vllm.entrypoints.openai.api_server"]
        started += ["--model", settings.model_dir, "--served-model-name", settings.model]
        started += ["--host", "127.0.0.1", "--port", str(port), "--dtype", settings.dtype]
        if settings.max_model_len is not None:
            started += ["--max-model-len", str(settings.max_model_len)]
        if settings.tensor_parallel_size > 1:
            started += ["--tensor-parallel-size", str(settings.tensor_parallel_size)]
        if settings.gpu_memory_utilization is not None:
            started += ["--gpu-memory-utilization", str(settings.gpu_memory_utilization)]
        return [*started, *settings.arguments]

    first = first_token if settings.task == "generate" else first_vector
    return Recipe("vllm", command, PassedThrough, first(settings.model), ENVIRONMENT)
