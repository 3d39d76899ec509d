"""Which images there are: a folder of `reference/images` each, and what differs from one to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from e2e.checkout import ROOT
from sim.experiment.errors import InputError

PREFIX = "windtunnel"


@dataclass(frozen=True, slots=True)
class Image:
    """One image. Without `by_default` it is built only when it is named: its base is many gigabytes."""

    name: str
    about: str
    by_default: bool = True
    base_argument: str = "PYTHON_IMAGE"
    variants: tuple[str, ...] = field(default=())
    """Other Containerfiles of it, by their suffix."""

    def containerfile(self, variant: str = "") -> Path:
        """Return its Containerfile, relative to the repository's root."""
        return Path("reference/images") / self.name / ("Containerfile" + (f".{variant}" if variant else ""))


IMAGES = {
    image.name: image
    for image in (
        Image("llm-api", "the gateway"),
        Image("router", "the router"),
        Image("llm-web", "the chat page"),
        Image("emulated-worker", "an engine's timing without a GPU"),
        Image("model-puller", "the init container that fetches a model"),
        Image("bert-worker", "embeddings and labels by transformers", by_default=False),
        Image("vllm-worker", "vLLM", by_default=False, base_argument="VLLM_IMAGE", variants=("cpu",)),
        Image("trt-worker", "TensorRT-LLM", by_default=False, base_argument="TRTLLM_IMAGE"),
    )
}


def named(names: Sequence[str]) -> list[Image]:
    """Return the images of those names; none: those that are built by default.

    Raises:
        InputError: there is no image of a name.
    """
    for name in names:
        if name not in IMAGES:
            close = get_close_matches(name, IMAGES, 1, 0.4)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise InputError(f"there is no image {name!r}{hint}; there are {', '.join(IMAGES)}")
    return [IMAGES[name] for name in names] if names else [image for image in IMAGES.values() if image.by_default]


def checkout() -> Path:
    """Return the repository's root, which images are built from.

    Raises:
        InputError: this is an installed wheel; it carries no Containerfiles.
    """
    if not (ROOT / "reference/images/router/Containerfile").is_file():
        raise InputError("images are built from a checkout of the repository: run this command in one")
    return ROOT
