"""A home for each peer of the simulator's benchmark: a virtual environment of its own, made on first use and kept.

Peers pin what our constraints pin otherwise, so they share no environment with us. They stay in `WINDTUNNEL_PEERS`, or
in a folder of the system's temporary one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

INSTALL_SECONDS = 900


class NotHere(Exception):
    """A peer cannot run on this machine; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another simulator, by its PyPI packages and the script beside this file that flies it."""

    name: str
    alone: tuple[str, ...]
    """Installed without what they ask for, which is more than this takes, or cannot be had everywhere."""
    needs: tuple[str, ...] = ()
    script: str

    @property
    def home(self) -> Path:
        """Where its environment is."""
        given = os.environ.get("WINDTUNNEL_PEERS")
        return (Path(given) if given else Path(tempfile.gettempdir()) / "windtunnel-peers") / self.name

    def python(self) -> Path:
        """Return its Python, with the peer installed.

        Raises:
            NotHere: it cannot be installed.
        """
        python, done = self.home / "bin" / "python", self.home / "installed"
        wanted = "\n".join((*self.alone, *self.needs))
        if not done.exists() or done.read_text() != wanted:
            _run([sys.executable, "-m", "venv", "--clear", str(self.home)])
            _run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", *self.alone])
            if self.needs:
                _run([str(python), "-m", "pip", "install", "--quiet", *self.needs])
            done.write_text(wanted)
        return python

    def flown(self, *arguments: object) -> float:
        """Return the requests per CPU second that its script prints last.

        Raises:
            NotHere: it cannot be installed, or does not run.
        """
        script = Path(__file__).with_name(self.script)
        with tempfile.TemporaryDirectory() as scratch:
            command = [str(self.python()), str(script), *map(str, arguments)]
            return float(_run(command, cwd=scratch).split()[-1])


def _run(command: list[str], cwd: str | None = None) -> str:
    # our constraints are not the peers'
    environment = {key: value for key, value in os.environ.items() if not key.endswith(("_CONSTRAINT", "PYTHONPATH"))}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            env=environment | {"DYN_LOG": "off"},
            cwd=cwd,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotHere(str(error)) from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or f"exit {done.returncode}").splitlines()[-1]
        raise NotHere(f"{' '.join(Path(part).name for part in command[:4])}: {last}")
    return done.stdout
