"""What images are built from: the commit of the sources, whether they have changed since one, and pip's settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BUILT_FROM = ("reference", "pyproject.toml", "constraints.txt", "LICENSE")


def revision(root: Path) -> str:
    """Return the commit that is built, marked when what images are built from differs from it."""
    commit = _git(root, "rev-parse", "HEAD")[1].strip()
    if not commit:
        return "unknown"
    return commit + ("-dirty" if _git(root, "status", "--porcelain", "--", *BUILT_FROM)[1].strip() else "")


def is_built_from(root: Path, built: str) -> bool:
    """Say whether what an image of that revision was built from is what there is now."""
    if not built or built == "unknown" or built.endswith("-dirty"):
        return False
    if _git(root, "ls-files", "--others", "--exclude-standard", *BUILT_FROM)[1].strip():
        return False
    return _git(root, "diff", "--quiet", built, "--", *BUILT_FROM)[0] == 0


def pip_settings() -> dict[str, str]:
    """Return pip's own settings by name; none where there is no pip."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, timeout=60, check=False
    )
    pairs = (line.partition("=") for line in done.stdout.splitlines())
    return {name: value.strip("'\"") for name, _, value in pairs}


def _git(root: Path, *words: str) -> tuple[int, str]:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        return 127, ""
    return done.returncode, done.stdout
