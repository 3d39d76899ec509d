"""How a worker ends: with code 0 when it was asked to, and with a code of its own when it has to by itself.

The server is left as by a signal, through its own clean end; what it ends with is decided here.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from reference.wire.serving import ASGIApp, serve
from reference.wire.settings import ServerSettings

NO_MODEL = 3
"""The model cannot be loaded: to start again will not help."""
GAVE_UP = 4
"""The engine ended again and again."""


class Ending:
    """The end of this process. `because` may be called from the event loop; the last code counts."""

    def __init__(self) -> None:
        self.code = 0

    def because(self, code: int) -> None:
        """End this process soon, with a code; requests under way may finish first."""
        self.code = code
        # unlike SIGTERM it is not preceded by a time in which requests are still taken
        signal.raise_signal(signal.SIGINT)

    def on_signal(self, hear: Callable[[], None]) -> None:
        """Call `hear` in the running loop at the first signal to end, before the server acts on it.

        Called while the server starts: its own handlers are in place by then, and stay.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _Relay(signal.getsignal(number), loop, hear))


def serve_until(ending: Ending, application: ASGIApp, settings: ServerSettings) -> None:
    """Serve until a signal or `ending`, and exit with its code."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(ending.code)

    # uvicorn raises a signal again when its own end is over
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    serve(application, settings)


class _Relay:
    """A signal handler that tells the loop, once, and then does what its predecessor did."""

    def __init__(self, before: Any, loop: asyncio.AbstractEventLoop, hear: Callable[[], None]) -> None:
        self._before = before
        self._loop = loop
        self._hear: Callable[[], None] | None = hear

    def __call__(self, number: int, frame: FrameType | None) -> None:
        hear, self._hear = self._hear, None
        if hear is not None:
            self._loop.call_soon_threadsafe(hear)
        if callable(self._before):
            self._before(number, frame)
