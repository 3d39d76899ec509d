"""Real processes on loopback: started on free ports, awaited with a deadline, torn down whatever happens, logs kept.

A process dies with this one, also when this one is killed: each is told by the kernel (Linux), and each leads a process
group of its own that is ended as a whole.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any

from sim.experiment.errors import InputError

READY_SECONDS = 60.0
GRACE_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1


class ProcessFailed(InputError):
    """A process of ours ended or did not become ready; the message has the end of its log."""


@dataclass(slots=True)
class Process:
    """One server process. `url` is where it listens; `ready_path` answers 200 once it is ready."""

    name: str
    module: str
    config: dict[str, Any]
    port: int
    ready_path: str
    log_path: Path
    handle: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self.handle is not None and self.handle.poll() is None

    def log_tail(self, lines: int = 8) -> str:
        """Return the last lines that it logged."""
        try:
            text = self.log_path.read_text(errors="replace").strip().splitlines()[-lines:]
        except OSError:
            text = []
        return "\n  ".join(["", *text]) if text else " (its log is empty)"


@dataclass(slots=True)
class Crew:
    """The processes of one flight. Use it as a context: on leaving it every process has ended."""

    directory: Path
    processes: dict[str, Process] = field(default_factory=dict)
    _old_handler: Any = None

    def __enter__(self) -> Crew:
        self.directory.mkdir(parents=True, exist_ok=True)
        # SIGTERM ends a flight as Ctrl-C does: through the finally blocks
        try:
            self._old_handler = signal.signal(signal.SIGTERM, _interrupt)
        except ValueError:
            self._old_handler = None  # not the main thread: whoever is there handles it
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(self.processes.values())
        if self._old_handler is not None:
            signal.signal(signal.SIGTERM, self._old_handler)

    def add(self, name: str, module: str, config: dict[str, Any], *, ready_path: str = "/health") -> Process:
        """Choose a port for a process and write its settings; it is not started yet."""
        port = free_port()
        process = Process(name, module, config, port, ready_path, self.directory / f"{name}.log")
        self.processes[name] = process
        return process

    def start(self, process: Process) -> None:
        """Start a process, again if it had ended; its log is continued."""
        config = self.directory / f"{process.name}.json"
        config.write_text(json.dumps(process.config, indent=1))
        command = [sys.executable, "-m", process.module, "--config", str(config), "--port", str(process.port)]
        with open(process.log_path, "ab") as log:
            process.handle = _spawn(command, log)

    def wait_until_ready(self, processes: Iterable[Process], seconds: float = READY_SECONDS) -> None:
        """Wait until each answers on its ready path.

        Raises:
            ProcessFailed: one ended, or was not ready within the deadline; with what it said last.
        """
        deadline = time.monotonic() + seconds
        for process in processes:
            state = "nothing was heard"
            while (state := _state(process)) != "ready":
                if not process.is_running:
                    code = process.handle.returncode if process.handle else None
                    raise ProcessFailed(
                        f"{process.name} ended with code {code} before it was ready:{process.log_tail()}"
                    )
                if time.monotonic() > deadline:
                    raise ProcessFailed(
                        f"{process.name} was not ready after {seconds:g} s (last state: {state}):{process.log_tail()}"
                    )
                time.sleep(0.05)

    def kill(self, process: Process) -> None:
        """Kill a process as a crash does."""
        if process.handle is not None and process.is_running:
            os.killpg(process.handle.pid, signal.SIGKILL)
            process.handle.wait(GRACE_SECONDS)

    def stop(self, processes: Iterable[Process]) -> None:
        """Ask processes to end, all at once, and kill what has not ended within the grace period."""
        alive = [process for process in processes if process.is_running]
        for process in alive:
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        for process in alive:
            assert process.handle is not None
            try:
                process.handle.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
                process.handle.wait(GRACE_SECONDS)


def free_port() -> int:
    """Return a port of loopback that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def post(url: str, payload: dict[str, Any], seconds: float = 5.0) -> None:
    """Post JSON to a control route.

    Raises:
        OSError: it did not answer 2xx.
    """
    request = urllib.request.Request(url, json.dumps(payload).encode(), {"content-type": "application/json"})
    urllib.request.urlopen(request, timeout=seconds).close()


def _state(process: Process) -> str:
    try:
        with urllib.request.urlopen(process.url + process.ready_path, timeout=2) as answer:
            return "ready" if answer.status == 200 else f"status {answer.status}"
    except urllib.error.HTTPError as error:
        with error:
            return f"status {error.code}"
    except OSError as error:
        return str(error)


def _spawn(command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def die_with_parent() -> None:
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )


def _signal(process: Process, number: signal.Signals) -> None:
    assert process.handle is not None
    try:
        os.killpg(process.handle.pid, number)
    except ProcessLookupError:
        return


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
