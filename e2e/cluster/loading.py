"""Our images: built where they are not here as the sources are now, and brought to the nodes that lack them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import version

from e2e.cluster.place import Place
from e2e.cluster.programs import StageFailed
from e2e.cluster.stages import Clock
from e2e.images.catalogue import PREFIX, checkout, named
from e2e.images.docker import build, build_command, inspect, pip_arguments
from e2e.images.sources import is_built_from, pip_settings, revision
from sim.experiment.errors import InputError

NAMES = ("llm-api", "router", "llm-web", "emulated-worker")
"""What the kind overlay runs."""


@dataclass(frozen=True, slots=True)
class Images:
    """The images of the stack on this machine and on the nodes."""

    place: Place
    rebuild: bool = False
    names: tuple[str, ...] = NAMES

    @property
    def references(self) -> list[str]:
        """Their full names, as the manifests have them."""
        return [f"{PREFIX}/{name}:{version('windtunnel')}" for name in self.names]

    def bring(self, clock: Clock) -> str:
        """Build those that are missing or old, and load them into the nodes."""
        root, tag = checkout(), version("windtunnel")
        arguments = {"VERSION": tag, "REVISION": revision(root), **pip_arguments(os.environ, pip_settings())}
        num_built = 0
        for image, reference in zip(named(self.names), self.references, strict=True):
            found = inspect(reference)
            labels = (found["Config"].get("Labels") or {}) if found else {}
            if not self.rebuild and is_built_from(root, labels.get("org.opencontainers.image.revision", "")):
                continue
            clock.seen = f"building {reference}"
            try:
                build(build_command(image, reference, arguments=arguments, network="host"), root, arguments, clock.left)
            except InputError as error:
                raise StageFailed(str(error)) from error
            num_built += 1
        clock.seen = "loading images into the nodes"
        self.place.programs.must(
            "kind", "load", "docker-image", *self.references, "--name", self.place.name, seconds=clock.left
        )
        return f"{len(self.references)} images, {num_built} of them built"
