"""What `windtunnel images` asks of Docker, seen through a stand-in for it."""

import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from e2e.checkout import ROOT
from e2e.cli import run
from e2e.images.catalogue import IMAGES, named
from e2e.images.docker import build_command, pip_arguments
from sim.experiment.errors import InputError

pytestmark = pytest.mark.skipif(
    not (ROOT / "reference/images").is_dir(), reason="the wheel carries no Containerfiles: this runs in a checkout"
)

STAND_IN = """\
#!/bin/sh
printf '%s\\n' "$*" >>"$CALLS"
case "$1" in
  build)
    printf 'VERSION=%s REVISION=%s\\n' "$VERSION" "$REVISION" >>"$CALLS"
    [ -z "$FAILS" ] || { echo "no space"; exit 1; } ;;
  image) echo '[{"Size": 214000000, "Config": {"User": "10001:10001", "Labels": {}}}]' ;;
esac
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin/docker"
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


@pytest.fixture(scope="module")
def requirements() -> ModuleType:
    spec = spec_from_file_location("requirements", ROOT / "reference/images/requirements.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_containerfile_is_an_image_of_the_catalogue() -> None:
    written = {path.relative_to(ROOT) for path in ROOT.glob("reference/images/*/Containerfile*")}

    assert written == {image.containerfile(variant) for image in IMAGES.values() for variant in ("", *image.variants)}


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("reference/images/*/Containerfile*")), ids=lambda path: path.parent.name
)
def test_a_containerfile_keeps_the_rules_of_the_house(path: Path) -> None:
    text = path.read_text()
    *_, last = text.split("\nFROM ")

    assert text.count("\nFROM ") == 2, "a stage that builds, and one that is kept"
    assert "\nUSER 10001:10001\n" in last
    assert "\nHEALTHCHECK " in last
    assert "PIP_" not in last, "where packages come from is no matter of the image"
    assert 'image.version="${VERSION}"' in last
    assert 'image.revision="${REVISION}"' in last
    assert "--mount" not in text, "only BuildKit knows it"
    assert "# syntax" not in text


def test_the_servers_need_nothing_of_the_simulator(requirements: ModuleType) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {
        line.split(">")[0].split("[")[0]
        for line in requirements.requirements(["serve"], project["optional-dependencies"])
    }

    assert "fastapi" in needed
    assert not needed & {"simpy", "numpy", "scipy", "pyarrow", "torch", "windtunnel"}


def test_an_extra_brings_what_it_takes_from_others_once(requirements: ModuleType) -> None:
    known = {"a": ["x>=1", "windtunnel[b,c]"], "b": ["y", "x>=1"], "c": ["windtunnel[b]", "z"]}

    assert requirements.requirements(["a"], known) == ["x>=1", "y", "z"]


def test_without_names_the_small_images_are_meant() -> None:
    assert [image.name for image in named(())] == ["llm-api", "router", "llm-web", "emulated-worker", "model-puller"]


def test_an_unknown_image_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match="did you mean 'router'"):
        named(["rooter"])


def test_no_value_of_a_build_argument_stands_on_the_command_line() -> None:
    command = build_command(
        IMAGES["router"],
        "w/router:1",
        arguments={"PIP_INDEX_URL": "https://me:secret@packages.example.org"},
        network="",
    )

    assert command[command.index("--build-arg") + 1] == "PIP_INDEX_URL"
    assert "secret" not in " ".join(command)
    assert "--network" not in command


def test_pip_is_led_where_it_goes_here_and_the_environment_has_the_last_word() -> None:
    configured = {"global.index-url": "https://a.example.org", "global.trusted-host": "a.example.org"}

    assert pip_arguments({"PIP_INDEX_URL": "https://b.example.org"}, configured) == {
        "PIP_INDEX_URL": "https://b.example.org",
        "PIP_TRUSTED_HOST": "a.example.org",
    }
    assert pip_arguments({}, {}) == {}


def test_an_image_is_built_from_the_checkout_with_its_version(calls: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["images", "build", "router", "--tag", "1.2.3", "--prefix", "registry.example.org/llm"]) == 0

    build, variables, inspect = calls.read_text().splitlines()
    assert "--tag registry.example.org/llm/router:1.2.3 --file reference/images/router/Containerfile" in build
    assert "--network host" in build
    assert variables.startswith("VERSION=1.2.3 REVISION=")
    assert inspect == "image inspect registry.example.org/llm/router:1.2.3"
    assert "214 MB" in capsys.readouterr().out


def test_a_build_that_fails_shows_its_end(
    calls: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAILS", "1")

    assert run(["images", "build", "router"]) == 2
    assert capsys.readouterr().err.rstrip().endswith("no space")


def test_without_docker_the_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    assert run(["images", "list"]) == 2
    assert "docker is not installed" in capsys.readouterr().err


def test_a_variant_that_an_image_does_not_have_is_refused(calls: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["images", "build", "router", "--variant", "cpu"]) == 2
    assert "router has none" in capsys.readouterr().err
    assert not calls.exists()
