"""Other programs, asked with a deadline: docker, kind, kubectl. Their last words are kept for who has to explain."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class StageFailed(Exception):
    """A stage cannot be completed; the message says what was last seen."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a program ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def last_words(self) -> str:
        """The end of what it said: of its complaints, if it made any."""
        lines = (self.err.strip() or self.out.strip()).splitlines()
        return " | ".join(line.strip() for line in lines[-3:])


@dataclass(frozen=True, slots=True)
class Programs:
    """Runs programs. `environment` is added to this process's own."""

    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def whole_environment(self) -> dict[str, str]:
        """This process's own environment, and what is added to it."""
        return {**os.environ, **self.environment}

    def ask(self, *command: str, seconds: float = 60, given: str | None = None) -> Answer:
        """Run a program to its end, whatever its exit code.

        Raises:
            StageFailed: it is not installed, or has not ended in time.
        """
        try:
            done = subprocess.run(
                command,
                input=given,
                capture_output=True,
                text=True,
                timeout=max(1.0, seconds),
                env=self.whole_environment,
                check=False,
            )
        except FileNotFoundError as error:
            raise StageFailed(f"{command[0]} is not installed") from error
        except subprocess.TimeoutExpired as error:
            raise StageFailed(f"`{_short(command)}` has not ended after {seconds:.0f} s") from error
        return Answer(done.returncode, done.stdout, done.stderr)

    def must(self, *command: str, seconds: float = 60, given: str | None = None) -> str:
        """Run a program that has to succeed; return what it printed.

        Raises:
            StageFailed: it did not, with its last words.
        """
        answer = self.ask(*command, seconds=seconds, given=given)
        if answer.code:
            raise StageFailed(f"`{_short(command)}`: {answer.last_words}")
        return answer.out


def _short(command: Sequence[str]) -> str:
    text = " ".join(command)
    return text if len(text) <= 120 else text[:117] + "…"
