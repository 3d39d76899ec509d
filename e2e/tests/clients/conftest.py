"""The whole stack as processes, for clients and tools that we have not written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from e2e.rungs.processes import Crew

MODEL = "tiny"
KEY = "My API Key"
"""The key that openai-python's tests send."""
ALIASES = ("gpt-5.4", "gpt-4o", "gpt-4o-mini", "gpt-3.5-turbo-instruct", "text-embedding-3-small")
"""The models that openai-python's tests ask for."""


@dataclass(frozen=True)
class RunningStack:
    """Gateway, router and two emulated workers, as they run."""

    url: str
    logs: Path
    key: str = KEY

    def log_tail(self) -> str:
        """Return the ends of all logs, for the message of a test that fails."""
        return "\n".join(f"{path.name}: {path.read_text()[-2000:]}" for path in sorted(self.logs.glob("*.log")))


@pytest.fixture(scope="module")
def running_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Start the stack; it ends with the module."""
    with Crew(tmp_path_factory.mktemp("stack")) as crew:
        engine = {"max_num_seqs": 256, "max_num_batched_tokens": 8192, "max_model_len": 100_000, "num_blocks": 20_000}
        # openai-python asks for base64 unless told otherwise, and in its strict mode cannot read it
        worker = {
            "model": MODEL,
            "step_cost": {"overhead": 0.0005},
            "engine": engine,
            "base64_embeddings": False,
        }
        workers = [crew.add(f"worker-{place}", "reference.worker.emulated", worker) for place in range(2)]
        endpoints = [{"name": process.name, "url": process.url} for process in workers]
        routing = {"pools": [{"model": MODEL, "endpoints": endpoints}]}
        router = crew.add("router", "reference.router", routing, ready_path="/readyz")
        gateway = crew.add(
            "gateway",
            "reference.gateway",
            {
                "router_url": router.url,
                "keys": [{"sha256": sha256(KEY.encode()).hexdigest(), "tenant": "red"}],
                "aliases": {alias: [MODEL] for alias in ALIASES},
                "access_log": str(crew.directory / "access.jsonl"),
            },
            ready_path="/readyz",
        )
        for process in (*workers, router, gateway):
            crew.start(process)
        crew.wait_until_ready([*workers])
        crew.wait_until_ready([router, gateway])
        yield RunningStack(gateway.url, crew.directory)
