"""Versions stand in one file, the manifests refer to exactly those, and a file of one's own changes them."""

import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.components import read_components, render
from sim.experiment.errors import InputError

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


def test_every_remote_reference_is_pinned_to_the_version_in_the_one_file(manifests: Path) -> None:
    versions = {one.repository: one.version for one in read_components(None, manifests).values() if one.repository}
    seen = set()

    for path in sorted((manifests / "platform").rglob("kustomization.yaml")):
        for repository, version in re.findall(
            r"(https://github\.com/[\w.-]+/[\w.-]+)/\S*\?ref=(\S+)", path.read_text()
        ):
            if repository in versions:
                assert version == versions[repository], path
                seen.add(repository)

    assert seen == set(versions)


def test_no_remote_reference_floats(manifests: Path) -> None:
    for path in sorted(manifests.rglob("kustomization.yaml")):
        for line in path.read_text().splitlines():
            if "https://" in line and not line.lstrip().startswith("#"):
                assert re.search(r"\?ref=v?[\w-]*\d+\.\d+\.\d+$", line.rstrip('"')), f"{path}: {line}"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "own.yaml"


def test_a_file_of_ones_own_changes_versions_and_keeps_where_they_come_from(manifests: Path, own: Path) -> None:
    own.write_text(
        "ingress-nginx: {version: controller-v1.11.0, without: [admission webhook (no image), image digest]}\n"
        "redis: {version: '7'}\n"
    )
    before, after = read_components(None, manifests), read_components(own, manifests)

    assert after["ingress-nginx"].version == "controller-v1.11.0"
    assert after["ingress-nginx"].repository == before["ingress-nginx"].repository
    assert after["ingress-nginx"].without == ("admission webhook", "image digest")
    assert after["redis"].version == "7"
    assert {name: one for name, one in after.items() if name not in ("ingress-nginx", "redis")} == {
        name: one for name, one in before.items() if name != "ingress-nginx"
    }


@needs_kubectl
def test_rendering_uses_the_version_that_is_given_and_leaves_the_manifests_alone(manifests: Path, own: Path) -> None:
    own.write_text("traefik: {version: v3.6.0, args: [--log.level=DEBUG]}\n")
    folder = "platform/ingress/traefik"
    was = (manifests / folder / "kustomization.yaml").read_text()

    by_default = render(folder, read_components(None, manifests), manifests)
    rendered = render(folder, read_components(own, manifests), manifests)

    assert "image: traefik:v3.7.9" in by_default
    assert "image: traefik:v3.6.0" in rendered
    assert "- --log.level=DEBUG" in rendered
    assert (manifests / folder / "kustomization.yaml").read_text() == was


@needs_kubectl
def test_a_build_that_fails_says_what_kustomize_said(manifests: Path, tmp_path: Path) -> None:
    copy = tmp_path / "manifests"
    shutil.copytree(manifests, copy, ignore=shutil.ignore_patterns("chart"))
    (copy / "platform/metallb/config/kustomization.yaml").write_text("resources: [gone.yaml]\n")

    with pytest.raises(InputError, match=r"gone\.yaml"):
        render("platform/metallb/config", read_components(None, copy), copy)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metallb: v0.16.1\n", "metallb: 'v0.16.1' has no version"),
        ("metallb: {version: ''}\n", "has no version"),
        ("metallb: {version: v1, versoin: v2}\n", "there is no key 'versoin' (did you mean 'version'?)"),
        ("- metallb\n", "holds no components"),
        ("metallb: {version: v1\n", "is not YAML"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(manifests: Path, own: Path, text: str, expected: str) -> None:
    own.write_text(text)

    with pytest.raises(InputError, match=re.escape(expected)) as refused:
        read_components(own, manifests)

    assert str(own) in str(refused.value)


@given(version=st.from_regex(r"v[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{1,2}", fullmatch=True))
def test_any_version_given_is_the_version_had(tmp_path_factory: pytest.TempPathFactory, version: str) -> None:
    path = tmp_path_factory.mktemp("own") / "own.yaml"
    path.write_text(f"metallb: {{version: {version}}}\n")
    at = Path(__file__).parents[3] / "manifests"
    if not at.is_dir():
        pytest.skip("the wheel carries no manifests: this runs in a checkout")

    assert read_components(path, at)["metallb"].version == version
