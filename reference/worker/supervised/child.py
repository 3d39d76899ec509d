"""An engine as a child process: in a group of its own, on a leash, ended by SIGTERM first and SIGKILL at last."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence

from reference.worker.supervised import leash


class Child:
    """One run of an engine. Life: `start` → `wait`; `stop` or `kill` make it shorter."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._is_cleared = False

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str]) -> Child:
        """Start a command; it writes where this process writes."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            leash.__file__,
            *command,
            stdin=asyncio.subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        """The process group's id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it is over."""
        return self._process.returncode is not None

    async def wait(self) -> int:
        """Wait for its end, end what it has left behind, and return its exit code."""
        code = await self._process.wait()
        if not self._is_cleared:
            # once only: later the group's id may be somebody else's
            self._is_cleared = True
            self.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        return code

    async def stop(self, seconds: float) -> int:
        """Ask it to end, and kill it when it has not ended in time; return its exit code."""
        if not self.has_ended:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), seconds)
            except TimeoutError:
                self.kill()
        return await self.wait()

    def kill(self) -> None:
        """Kill its whole group: an engine is several processes, and each may hold a part of a GPU."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            # nobody of it is left
            return


def free_port() -> int:
    """Return a port of loopback that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port
