"""Prints what some extras of the project need, one requirement a line, without what the project itself needs.

`python requirements.py serve redis < pyproject.toml`. An image installs the servers and these, and so holds nothing of
the simulator: pip knows no way to install an extra alone. Standard library only: it runs in an image's build stage.
"""

from __future__ import annotations

import sys
import tomllib


def requirements(extras: list[str], known: dict[str, list[str]]) -> list[str]:
    """Return the requirements of `extras`, those that an extra takes from another one included, each once.

    Raises:
        KeyError: there is no extra of that name.
    """
    found: dict[str, None] = {}
    for extra in extras:
        for line in known[extra]:
            if line.startswith("windtunnel["):
                inner = line.removeprefix("windtunnel[").rstrip("]").split(",")
                found |= dict.fromkeys(requirements(inner, known))
            else:
                found[line] = None
    return list(found)


if __name__ == "__main__":
    project = tomllib.loads(sys.stdin.read())["project"]
    print("\n".join(requirements(sys.argv[1:], project["optional-dependencies"])))
