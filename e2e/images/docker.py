"""Docker's command line, as far as images need it: what to run, and what its failures mean."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from e2e.images.catalogue import Image
from sim.experiment.errors import InputError

PIP_SETTINGS = {
    "PIP_INDEX_URL": "global.index-url",
    "PIP_EXTRA_INDEX_URL": "global.extra-index-url",
    "PIP_TRUSTED_HOST": "global.trusted-host",
}
"""Where pip finds packages: the variable, which is the build argument as well, and its name in pip's own files."""
TAIL_LINES = 25


def pip_arguments(environment: Mapping[str, str], configured: Mapping[str, str]) -> dict[str, str]:
    """Return the build arguments that lead pip, inside a build, where it goes on this machine."""
    found = {name: environment.get(name) or configured.get(key, "") for name, key in PIP_SETTINGS.items()}
    return {name: value for name, value in found.items() if value}


def build_command(
    image: Image,
    reference: str,
    *,
    arguments: Mapping[str, str],
    network: str,
    variant: str = "",
    docker: str = "docker",
) -> list[str]:
    """Return the command that builds an image from the repository's root.

    Build arguments are named only: their values are in the environment, so that no list of processes shows one.
    """
    command = [docker, "build", "--tag", reference, "--file", str(image.containerfile(variant))]
    if network:
        command += ["--network", network]
    for name in arguments:
        command += ["--build-arg", name]
    return [*command, "."]


def build(command: Sequence[str], root: Path, arguments: Mapping[str, str], seconds: float) -> None:
    """Run a build.

    Raises:
        InputError: it failed, with the end of what was said, or took too long.
    """
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env={**os.environ, **arguments},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise InputError(f"{command[0]} is not installed: images are built with Docker") from error
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{command[-2]}: the build has not ended after {seconds:g} s") from error
    if done.returncode:
        tail = "\n".join(done.stdout.strip().splitlines()[-TAIL_LINES:])
        raise InputError(f"{' '.join(command)}: failed:\n{tail}")


def ask(*words: str, docker: str = "docker") -> str | None:
    """Return what docker says; None when it says no.

    Raises:
        InputError: docker is not installed, or its daemon does not answer.
    """
    try:
        done = subprocess.run([docker, *words], capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError as error:
        raise InputError(f"{docker} is not installed: images need Docker") from error
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{docker} {words[0]}: no answer after 60 s") from error
    if done.returncode and "connect to the Docker daemon" in done.stderr:
        raise InputError(f"{docker}: {done.stderr.strip()}")
    return done.stdout if done.returncode == 0 else None


def inspect(reference: str, docker: str = "docker") -> dict[str, Any] | None:
    """Return what docker knows of an image; None when it is not here."""
    told = ask("image", "inspect", reference, docker=docker)
    if told is None:
        return None
    found: dict[str, Any] = json.loads(told)[0]
    return found
