"""openai-python's own tests of its API resources, against gateway, router and worker in place of its mock server."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytestmark = [pytest.mark.openai_client, pytest.mark.timeout(900)]

VERSION = "3.3.1"
RESOURCES = ("chat/test_completions", "test_completions", "test_embeddings", "test_models")
SELECTION = "create or (models and (list or retrieve))"
NUM_TESTS = 140
"""How many the selection has; 135 of them reach a server, the others test what the client refuses by itself."""


@pytest.fixture(scope="module")
def sources(request: pytest.FixtureRequest) -> Path:
    """Return the unpacked sdist, which pip gets from the index that it is configured for; kept between runs."""
    cache = request.config.cache.mkdir("openai-python")
    sources = cache / f"openai-{VERSION}"
    if not sources.exists():
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*fetch, "--no-binary", ":all:", f"openai=={VERSION}", "--dest", cache], check=True, timeout=300)
        with tarfile.open(cache / f"openai-{VERSION}.tar.gz") as archive:
            archive.extractall(cache / "new", filter="data")
        (cache / "new" / sources.name).replace(sources)
    return sources


def test_the_clients_own_tests_pass_through_the_stack(running_stack, sources: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "-q", "--tb=short"]
    command += [f"tests/api_resources/{name}.py" for name in RESOURCES]
    command += ["-k", SELECTION, f"--junit-xml={report}"]
    environment = {
        **os.environ,
        "TEST_API_BASE_URL": f"{running_stack.url}/v1",
        "PYTHONPATH": str(sources / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_PROXY": "127.0.0.1",
    }
    ran = subprocess.run(command, cwd=sources, env=environment, capture_output=True, text=True, timeout=800)

    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None
    told = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    assert told == {"tests": NUM_TESTS, "failures": 0, "errors": 0, "skipped": 0}, (
        ran.stdout[-12_000:] + running_stack.log_tail()
    )
