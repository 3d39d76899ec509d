"""Runs a command on a leash: when standard input closes, the whole process group is killed.

Whoever started it holds the other end of the pipe and may end in any way, `kill -9` included: no engine is left behind
with the GPU's memory. SIGTERM is passed on to the command alone, so that it can end its own processes in its order.
Standard library only: it is started as a file, by an isolated interpreter.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def main() -> int:
    """Run the command in the arguments; return its exit code: 128 + n after a signal, 127 if it is not there."""
    try:
        engine = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"{sys.argv[1]}: cannot be started: {error.strerror}", file=sys.stderr)
        return 127
    signal.signal(signal.SIGTERM, lambda *_: engine.terminate())
    threading.Thread(target=_hold, name="leash", daemon=True).start()
    code = engine.wait()
    return code if code >= 0 else 128 - code


def _hold() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
