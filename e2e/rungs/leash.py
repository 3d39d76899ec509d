"""Runs a module as `python -m` does, on a leash: when standard input closes, its process group is killed.

Whoever started it holds the other end, and may end in any way, `kill -9` included: nothing is left behind.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def main() -> None:
    """Run the module that the first argument names with the arguments after it."""
    threading.Thread(target=_hold, name="leash", daemon=True).start()
    module, sys.argv = sys.argv[1], sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _hold() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
