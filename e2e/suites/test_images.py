"""The images as they were built: small, nobody's root, nothing secret in a file, a layer or the environment."""

import json
import os
import re
import subprocess
import time
from importlib.metadata import version

import pytest

from e2e.cluster.loading import NAMES, Images
from e2e.cluster.stages import Clock
from e2e.images.catalogue import IMAGES, PREFIX, checkout
from e2e.images.docker import PIP_SETTINGS, ask, build, build_command, inspect, pip_arguments
from e2e.images.sources import pip_settings

TAG = version("windtunnel")
OURS = (*NAMES, "model-puller")
MAX_BYTES = 260_000_000
SECRETS = re.compile(r"://[^/\s:@]+:[^/\s@]+@|BEGIN [A-Z ]*PRIVATE KEY|AKIA[0-9A-Z]{16}|wt-[A-Za-z0-9_-]{30}")
LOOK = """\
import json, os, pathlib, re, stat
found = {"setuid": [], "secret": [], "ours": [], "writable": []}
secret = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----|://[^/\\s:@]+:[^/\\s@]+@[a-z]")
for top in ("/opt", "/etc", "/root", "/home", "/tmp", "/licenses"):
    for folder, _, names in os.walk(top):
        for name in names:
            path = pathlib.Path(folder, name)
            if path.is_symlink() or not path.is_file(): continue
            mode = path.stat().st_mode
            if mode & (stat.S_ISUID | stat.S_ISGID): found["setuid"].append(str(path))
            if top == "/opt" and os.access(path, os.W_OK): found["writable"].append(str(path))
            if os.access(path, os.R_OK) and path.stat().st_size < 2_000_000 and "site-packages" not in folder:
                if secret.search(path.read_bytes()): found["secret"].append(str(path))
packages = [p.name for p in pathlib.Path("/opt/windtunnel/lib").glob("python3*/site-packages/*")]
found["ours"] = sorted({"sim", "e2e", "torch", "pip", "simpy"} & set(packages))
found["uid"] = os.getuid()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def built(place):
    """The images that are built here."""
    if place.given is not None:
        pytest.skip("not run here, because the images of an existing cluster are not on this machine")
    Images(place, names=OURS).bring(Clock(time.monotonic() + 600))


@pytest.mark.parametrize("name", OURS)
def test_an_image_is_small_and_says_what_it_is(built, figure, name) -> None:
    told = inspect(f"{PREFIX}/{name}:{TAG}")
    assert told is not None
    config = told["Config"]

    assert config["User"] == "10001:10001"
    assert config["Labels"]["org.opencontainers.image.version"] == TAG
    assert len(config["Labels"]["org.opencontainers.image.revision"]) >= 40
    assert config.get("Healthcheck"), "a health check, or the word that there is none"
    assert told["Size"] < MAX_BYTES
    figure(f"image {name}: {told['Size'] / 1e6:.0f} MB")


@pytest.mark.parametrize("name", OURS)
def test_nothing_secret_is_in_its_environment_or_its_layers(built, name) -> None:
    reference = f"{PREFIX}/{name}:{TAG}"
    history = ask("history", "--no-trunc", "--format", "{{.CreatedBy}}", reference)
    told = inspect(reference)
    assert history is not None
    assert told is not None

    assert not SECRETS.search(history + json.dumps(told["Config"]))
    assert not [line for line in told["Config"]["Env"] if line.partition("=")[0] in PIP_SETTINGS]


@pytest.mark.parametrize("name", OURS)
def test_its_files_hold_no_root_no_secret_and_nothing_that_it_does_not_need(built, name) -> None:
    flags = ("--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--entrypoint", "python")
    said = ask("run", *flags, f"{PREFIX}/{name}:{TAG}", "-c", LOOK)
    assert said is not None
    found = json.loads(said)

    assert found["uid"] == 10001
    assert found["ours"] == [], "no simulator, no torch, no installer"
    assert (found["setuid"], found["secret"], found["writable"]) == ([], [], [])


def test_the_trt_workers_own_part_is_built_on_another_base() -> None:
    """NVIDIA's image is many gigabytes; what we put on it is tried on a stand-in of the same shape: a Python image."""
    arguments = {"TRTLLM_IMAGE": "python:3.11-slim-bookworm", "VERSION": TAG, "REVISION": "stand-in"}
    arguments |= {"PYTHON": "/usr/local/bin/python3"}
    arguments |= pip_arguments(os.environ, pip_settings())
    reference = f"{PREFIX}/trt-worker-on-a-stand-in:{TAG}"
    command = build_command(IMAGES["trt-worker"], reference, arguments=arguments, network="host")
    build(command, checkout(), arguments, 400)

    done = subprocess.run(
        ["docker", "run", "--rm", "--read-only", "--tmpfs", "/tmp", reference, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = inspect(reference)
    assert told is not None
    assert told["Config"]["User"] == "10001:10001"
    assert "WINDTUNNEL_TRT_WORKER_" in done.stdout, done.stderr
