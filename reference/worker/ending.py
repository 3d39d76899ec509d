"""How a worker ends: with code 0 when it was asked to, and with a code of its own when it has to by itself.

The server is left as by a signal, through its own clean end; what it ends with is decided here.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

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


def serve_until(ending: Ending, application: ASGIApp, settings: ServerSettings) -> None:
    """Serve until a signal or `ending`, and exit with its code."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(ending.code)

    # uvicorn raises a signal again when its own end is over
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    serve(application, settings)
