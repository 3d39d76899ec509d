"""What kustomize makes of a folder of the manifests, once a session."""

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from e2e.components import MANIFESTS, build

Objects = list[dict[str, Any]]


def documents(text: str) -> Objects:
    return [document for document in YAML(typ="safe", pure=True).load_all(text) if document]


@pytest.fixture(scope="session")
def manifests() -> Path:
    if not MANIFESTS.is_dir():
        pytest.skip("the wheel carries no manifests: this runs in a checkout")
    return MANIFESTS


@pytest.fixture(scope="session")
def built(manifests: Path) -> Iterator[Callable[[str], Objects]]:
    """Builds a folder by its path below `manifests`."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: kustomize is a part of it")

    @cache
    def objects(folder: str) -> Objects:
        return documents(build(manifests / folder))

    return objects
