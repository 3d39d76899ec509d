"""The settings that every supervised engine has: where it is, how long it may take, how often it is started again."""

from __future__ import annotations

from pydantic import Field

from reference.wire.settings import ServerSettings


class SupervisedSettings(ServerSettings):
    """Settings of a worker around an engine of its own."""

    model: str
    """The model's name in requests."""
    model_dir: str
    """The directory with its weights, or a name that the engine can resolve."""
    arguments: tuple[str, ...] = ()
    """More arguments for the engine, as on its command line."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Variables for the engine, over this process's own."""
    task: str = Field("generate", pattern="^(generate|embed)$")
    """`generate` or `embed`: what a first request asks for before the worker is ready."""
    engine_port: int = Field(0, ge=0, le=65535)
    """Where the engine listens on loopback; 0: a free port at each start."""
    start_seconds: float = Field(900.0, gt=0)
    """An engine that has given no token by then is started again."""
    health_interval_seconds: float = Field(2.0, gt=0)
    """How often the engine is asked for its health."""
    hang_seconds: float = Field(60.0, gt=0)
    """An engine that has answered no health check for so long is killed and started again."""
    stop_seconds: float = Field(20.0, gt=0)
    """How long the engine may take to end after SIGTERM before it is killed."""
    max_restarts: int = Field(5, ge=0)
    """So many starts in a row may fail; then this process ends with code 4."""
    restart_base_seconds: float = Field(1.0, ge=0)
    """The wait before the first of them; it doubles each time."""
    restart_max_seconds: float = Field(60.0, ge=0)
    """The longest wait."""
    stable_seconds: float = Field(300.0, ge=0)
    """An engine that was ready for so long has its restarts forgiven."""
    max_body_bytes: int = 32 * 2**20
    """A larger request is answered 413."""
