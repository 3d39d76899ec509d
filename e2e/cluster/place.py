"""Where a cluster's own files are on this machine: how it is reached, and whom it trusts."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.programs import Programs
from sim.experiment.errors import InputError

API_HOST = "api.windtunnel.test"
PAGE_HOST = "chat.windtunnel.test"
NAMESPACE = "llm"
TENANT = "windtunnel"


@dataclass(frozen=True, slots=True)
class Place:
    """One cluster by its name. With `given` it is somebody else's cluster: reached, never made or deleted."""

    name: str
    directory: Path
    given: Path | None = None

    @classmethod
    def of(cls, name: str, given: Path | None = None) -> Place:
        """Return the place of a cluster; its directory is made.

        Raises:
            InputError: the name is none that kind takes, or the kubeconfig is not there.
        """
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,38}[a-z0-9])?", name):
            raise InputError(f"--name {name}: expected lower-case letters, digits, '-' and '.', at most 40")
        if given is not None and not given.is_file():
            raise InputError(f"--kubeconfig {given}: there is no such file")
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
        directory = state / "windtunnel" / "clusters" / name
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        return cls(name, directory, given)

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of this cluster alone; the user's own is left as it is."""
        return self.given or self.directory / "kubeconfig"

    @property
    def authority(self) -> Path:
        """The certificate that the cluster's front door is trusted by."""
        return self.directory / "authority.pem"

    @property
    def key_file(self) -> Path:
        """The API key that the stack takes."""
        return self.directory / "api-key"

    @property
    def api_key(self) -> str:
        """The API key itself."""
        return self.key_file.read_text().strip()

    @property
    def programs(self) -> Programs:
        """Programs that see this cluster."""
        return Programs({"KUBECONFIG": str(self.kubeconfig)})
