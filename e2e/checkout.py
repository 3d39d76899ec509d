"""Where the repository is: no wheel has manifests and Containerfiles, so commands that need them run in a checkout."""

from __future__ import annotations

from pathlib import Path

_MARK = "manifests/components.yaml"


def _root() -> Path:
    """Return the folder that this file is in a checkout of, else the nearest one from the current folder up."""
    own = Path(__file__).parents[1]
    here = Path.cwd()
    return next((folder for folder in (own, here, *here.parents) if (folder / _MARK).is_file()), own)


ROOT = _root()
