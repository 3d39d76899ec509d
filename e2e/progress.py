"""Progress of what takes longer than two seconds: a bar with its ETA on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Progress = Callable[[float], None]
"""Told the share that is done, 0 to 1, as often as one likes."""

QUIET_SECONDS = 2.0
LINE_EVERY_SECONDS = 15.0


@contextmanager
def shown(title: str) -> Iterator[Progress]:
    """Give a function to report progress to; nothing is shown in the first two seconds."""
    show = _Bar(title) if sys.stderr.isatty() else _Lines(title)
    try:
        yield show
    finally:
        show.close()


class _Lines:
    """A line on stderr every so often, for logs."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._began = time.monotonic()
        self._next = self._began + LINE_EVERY_SECONDS

    def __call__(self, share: float) -> None:
        now = time.monotonic()
        if now >= self._next:
            left = (now - self._began) * (1 - share) / share if share > 0 else 0.0
            print(f"{self._title}: {share:.0%}, about {left:.0f} s to go", file=sys.stderr, flush=True)
            self._next = now + LINE_EVERY_SECONDS

    def close(self) -> None:
        """Say nothing more."""


class _Bar:
    """A bar that appears after two seconds and goes when it is done."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._began = time.monotonic()
        self._drawn: tuple[Any, Any] | None = None

    def __call__(self, share: float) -> None:
        if self._drawn is None:
            if time.monotonic() - self._began < QUIET_SECONDS:
                return
            self._start()
        assert self._drawn is not None
        progress, task = self._drawn
        progress.update(task, completed=share)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        progress.start()
        self._drawn = (progress, progress.add_task(self._title, total=1.0))

    def close(self) -> None:
        """Take the bar away."""
        if self._drawn is not None:
            self._drawn[0].stop()
