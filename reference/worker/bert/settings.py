"""The settings of a bert worker: which model, where it computes, and how texts are gathered into batches."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from reference.wire.settings import ServerSettings


class BertSettings(ServerSettings):
    """Settings of a bert worker."""

    model: str
    """The model's name in requests."""
    model_dir: Path
    """A directory with config.json, tokenizer.json and safetensors; nothing is downloaded."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, or `auto`: a GPU where there is one."""
    threads: int = Field(0, ge=0)
    """Processors that one forward pass uses; 0: torch's choice."""
    max_batch_texts: int = Field(64, ge=1)
    """The largest batch, in texts."""
    max_batch_tokens: int = Field(16_384, ge=1)
    """The largest batch, in tokens with padding: the longest text times their number."""
    max_wait_seconds: float = Field(0.002, ge=0)
    """How long a text may wait for others to share its batch while the device is idle."""
    max_queued_texts: int = Field(4096, ge=1)
    """A request that would make more wait is answered 429."""
    max_body_bytes: int = 32 * 2**20
    """A larger request is answered 413."""
