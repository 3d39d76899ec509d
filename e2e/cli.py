"""The windtunnel command: names its sub-commands and turns bad input, Ctrl-C and a full disk into one line each.

A sub-command's module is imported when it is asked for, so that `--help` answers at once. Each lives in `e2e.commands`
as a function, or a Typer application, of the command's name.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import textwrap
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version
from typing import Any

from sim.experiment.errors import InputError

COMMANDS: dict[str, str] = {
    "replay": "Fly a scenario and report: in simulated time, on loopback, on kind, or against a URL.",
    "compare": "Compare two scenarios or runs; exit 1 when something got significantly worse.",
    "report": "Write a run's report again.",
    "validate": "Check scenario files and say what they would fly.",
    "scenarios": "List the shipped scenarios and what each one teaches.",
    "schema": "Print the JSON Schema of scenario files, for editors.",
    "policies": "List the routing policies, or check one of your own.",
    "serve": "Serve a scenario's cluster on loopback until Ctrl-C.",
    "reach": "Who can reach whom under network policies, predicted and measured.",
    "plan": "Find the cheapest cluster that meets a scenario's SLOs.",
    "fidelity": "How right the simulator is: its predictions held against measured rows.",
    "calibrate": "Fit what a step costs on an endpoint, or in a recorded run.",
    "images": "Build the container images of the reference stack, or list them.",
    "cluster": "The stack on a kind cluster: make it, look at it, take it down.",
}
"""Name and one line of help, in the order of `--help`."""

HELP = """\
Usage: windtunnel COMMAND [OPTIONS] ...

  Fly your LLM-serving cluster before you ship it.

  One scenario file flies in simulated time, through real processes on loopback, through pods on a kind cluster, and
  against real endpoints, with one report.

Commands:
{commands}

Options:
  -h, --help     Show this, or with a command its own help.
  --version      Show the version.

Exit codes: 0 all verdicts hold, 1 one does not (or something got worse), 2 bad input, 3 the run is invalid,
130 interrupted.

Start with: windtunnel replay first_flight"""


_SELF = ("-h", "--help", "help", "--version")
"""What is asked of the command itself."""


def main() -> None:
    """Run the command line and exit with its code; being terminated cleans up as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; return the exit code, having said on stderr why it is not 0."""
    if arguments and arguments[0] not in (*COMMANDS, *_SELF):
        close = get_close_matches(arguments[0], list(COMMANDS), 1, 0.4)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        return _say(f"error: there is no command {arguments[0]!r}{hint}; there are {', '.join(COMMANDS)}", 2)
    try:
        if not arguments or arguments[0] in _SELF:
            print(f"windtunnel {version('windtunnel')}" if arguments == ["--version"] else _help(), flush=True)
            return 0 if arguments else 2
        return _call(arguments[0], arguments[1:])
    except InputError as error:
        return _say(f"error: {error}", 2)
    except KeyboardInterrupt:
        return _say("interrupted; nothing half-written was left", 130)
    except BrokenPipeError:
        # whoever read our output has gone; python would complain once more when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
            return _say(f"error: {error.filename or 'a file'}: {error.strerror}", 2)
        raise


def _call(name: str, arguments: list[str]) -> int:
    """Import a sub-command and run it; Typer itself answers wrong options, with exit code 2."""
    import typer

    found: Any = getattr(import_module(f"e2e.commands.{name}"), name)
    if not isinstance(found, typer.Typer):
        application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        application.command(name, context_settings={"help_option_names": ["-h", "--help"]})(found)
        found = application
    try:
        found(arguments, prog_name=f"windtunnel {name}")
    except SystemExit as end:
        if end.code == 130:
            return _say("interrupted; nothing half-written was left", 130)
        return end.code if isinstance(end.code, int) else 0
    return 0


def _terminated(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _help() -> str:
    width = min(120, shutil.get_terminal_size().columns)
    lines = []
    for name, about in COMMANDS.items():
        lines += textwrap.wrap(about, width, initial_indent=f"  {name:<11} ", subsequent_indent=" " * 14)
    return HELP.format(commands="\n".join(lines))


def _say(words: str, code: int) -> int:
    print(words, file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
