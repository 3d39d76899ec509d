"""Every object fits the schema of each Kubernetes version that is promised."""

from collections.abc import Callable
from typing import Any

import pytest

validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")

STACKS = ["llm/base", "llm/overlays/kind", "llm/overlays/kind_traefik", "llm/overlays/gpu", "platform/ingress/traefik"]
VERSIONS = ["1.34", "1.35", "1.36", "1.37"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("stack", STACKS)
def test_every_object_is_valid(built: Callable[[str], list[dict[str, Any]]], stack: str, version: str) -> None:
    for one in built(stack):
        validate.validate(one, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_misspelt_field_is_seen(built: Callable[[str], list[dict[str, Any]]], version: str) -> None:
    service = next(one for one in built("llm/base") if one["kind"] == "Service")
    wrong = {**service, "spec": {**service["spec"], "selecter": {}}}

    with pytest.raises(validate.ValidationError):
        validate.validate(wrong, version, strict=True)
