"""Real processes on loopback: started on free ports, awaited with a deadline, torn down whatever happens, logs kept.

Each process leads a group of its own that is ended as a whole, and is on a leash (`e2e.rungs.leash`): it dies with
this process, however this one dies.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from sim.experiment.errors import InputError

READY_SECONDS = 90.0
GRACE_SECONDS = 5.0
POLL_SECONDS = 0.05
LOWEST_PORT, PORTS_END = 20_000, 32_000
"""Below the ports that the kernel gives to outgoing connections: one of those could take a crashed server's port, or
even connect to itself there."""


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

    def state(self) -> str:
        """Ask it on its ready path; return `ready`, or what it said instead."""
        return state_of(self)

    def page(self) -> str:
        """Return its metrics page; empty when it does not answer."""
        try:
            with urllib.request.urlopen(f"{self.url}/metrics", timeout=1) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def post(self, path: str, payload: dict[str, Any]) -> None:
        """Post JSON to a control route.

        Raises:
            OSError: it did not answer 2xx.
        """
        post(self.url + path, payload)

    def set_partitioned(self, is_partitioned: bool) -> None:
        """Let nothing pass between it and whoever asks it, or let it pass again.

        Raises:
            OSError: it does not answer.
        """
        self.post("/control/faults", {"is_partitioned": is_partitioned})

    def log_tail(self, lines: int = 8) -> str:
        """Return the last lines that it logged."""
        try:
            text = self.log_path.read_text(errors="replace").strip().splitlines()[-lines:]
        except OSError:
            text = []
        return "\n  ".join(["", *text]) if text else " (its log is empty)"


@dataclass(slots=True)
class Crew:
    """The processes of one flight. Use it as a context: on leaving it every process has ended.

    SIGTERM ends a flight as Ctrl-C does: through the finally blocks.
    """

    directory: Path
    processes: dict[str, Process] = field(default_factory=dict)
    _handlers: dict[signal.Signals, Any] = field(default_factory=dict)
    _is_ending: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Crew:
        self.directory.mkdir(parents=True, exist_ok=True)
        if threading.current_thread() is threading.main_thread():
            self._handlers[signal.SIGTERM] = signal.signal(signal.SIGTERM, _interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handlers:
            # the end takes a few seconds at most, and an impatient second Ctrl-C would leave it half done
            self._handlers[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with self._lock:
            self._is_ending = True
        self.stop(self.processes.values())
        for process in self.processes.values():
            _release(process)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def add(
        self, name: str, module: str, config: dict[str, Any], *, ready_path: str = "/health", port: int | None = None
    ) -> Process:
        """Choose a port for a process, unless one is given; it is not started yet."""
        port = port or free_port([process.port for process in self.processes.values()])
        process = Process(name, module, config, port, ready_path, self.directory / f"{name}.log")
        self.processes[name] = process
        return process

    def start(self, process: Process) -> None:
        """Start a process, again if it had ended; its log is continued. Does nothing once the crew is ending."""
        config = self.directory / f"{process.name}.json"
        config.write_text(json.dumps(process.config, indent=1))
        command = [sys.executable, "-P", "-m", "e2e.rungs.leash", process.module]
        command += ["--config", str(config), "--port", str(process.port)]
        with self._lock, open(process.log_path, "ab") as log:
            if self._is_ending:
                return
            _release(process)
            process.handle = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait_until_ready(self, processes: Iterable[Process], seconds: float = READY_SECONDS) -> None:
        """Wait until each answers on its ready path.

        Raises:
            ProcessFailed: one ended, or was not ready within the deadline; with what it said last.
        """
        deadline = time.monotonic() + seconds
        for process in processes:
            while (state := state_of(process)) != "ready":
                if not process.is_running:
                    code = process.handle.returncode if process.handle else None
                    raise ProcessFailed(
                        f"{process.name} ended with code {code} before it was ready:{process.log_tail()}"
                    )
                if time.monotonic() > deadline:
                    raise ProcessFailed(
                        f"{process.name} was not ready after {seconds:g} s (last state: {state}):{process.log_tail()}"
                    )
                time.sleep(POLL_SECONDS)

    def kill(self, process: Process) -> None:
        """Kill a process as a crash does."""
        if process.is_running:
            _signal(process, signal.SIGKILL)
            _gone(process, GRACE_SECONDS)

    def stop(self, processes: Iterable[Process]) -> None:
        """Ask processes to end, all at once, and kill what has not ended within the grace period."""
        alive = [process for process in processes if process.is_running]
        for process in alive:
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        for process in alive:
            if not _gone(process, max(0.1, deadline - time.monotonic())):
                self.kill(process)


def free_port(taken: Iterable[int] = ()) -> int:
    """Return a port of loopback that nobody listens on at this moment.

    Raises:
        ProcessFailed: there is none.
    """
    candidates = random.sample(range(LOWEST_PORT, PORTS_END), 200)
    for port in candidates:
        if port not in taken and is_free(port):
            return port
    raise ProcessFailed(f"no port of loopback between {LOWEST_PORT} and {PORTS_END} is free")


def is_free(port: int) -> bool:
    """Say whether a server could listen on a port of loopback."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def post(url: str, payload: dict[str, Any], seconds: float = 5.0) -> None:
    """Post JSON to a control route.

    Raises:
        OSError: it did not answer 2xx.
    """
    request = urllib.request.Request(url, json.dumps(payload).encode(), {"content-type": "application/json"})
    urllib.request.urlopen(request, timeout=seconds).close()


def state_of(process: Process) -> str:
    """Ask a process on its ready path; return `ready`, or what it said instead."""
    try:
        with urllib.request.urlopen(process.url + process.ready_path, timeout=2) as answer:
            return "ready" if answer.status == 200 else f"status {answer.status}"
    except urllib.error.HTTPError as error:
        with error:
            return f"status {error.code}"
    except OSError as error:
        return str(error)


def _gone(process: Process, seconds: float) -> bool:
    """Wait until a process has ended, and let go of its leash; say whether it has."""
    assert process.handle is not None
    try:
        process.handle.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    _release(process)
    return True


def _release(process: Process) -> None:
    """Let go of the leash of a process that has ended."""
    if process.handle is not None and process.handle.stdin is not None:
        process.handle.stdin.close()


def _signal(process: Process, number: signal.Signals) -> None:
    assert process.handle is not None
    try:
        os.killpg(process.handle.pid, number)
    except ProcessLookupError:
        # it has ended since it was looked at
        return


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
