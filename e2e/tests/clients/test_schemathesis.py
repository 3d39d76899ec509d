"""Schemathesis against the stack: by OpenAI's description of its API, and by the gateway's own openapi.json."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.schemathesis, pytest.mark.timeout(600)]

OPENAI = Path(__file__).with_name("openai_description") / "openapi_subset.json"
PINNED = {"type": "string", "enum": ["tiny"]}
"""The one model that is served; the description leaves the names of models open."""
CHECKS = "not_a_server_error,negative_data_rejection,positive_data_acceptance"
EXAMPLES = "60"

Fuzz = Callable[..., None]


@pytest.fixture
def fuzz(running_stack, tmp_path: Path) -> Fuzz:
    """`fuzz(document, base="/v1", checks=...)`: every failure that Schemathesis finds, in its own words."""

    def run(document: dict[str, Any], *, base: str = "", checks: str = CHECKS, least: int) -> None:
        (tmp_path / "openapi.json").write_text(json.dumps(document))
        report = tmp_path / "report.ndjson"
        command = [sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--url", running_stack.url + base]
        command += ["--header", f"Authorization: Bearer {running_stack.key}", "--checks", checks]
        command += ["--max-examples", EXAMPLES, "--seed", "1", "--continue-on-failure", "--no-color"]
        command += ["--report", "ndjson", "--report-ndjson-path", str(report), "--output-sanitize", "false"]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)

        assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:] + running_stack.log_tail()
        events = report.read_text().splitlines()
        assert sum('"status_code"' in line for line in events) > 0, ran.stdout[-3000:]
        assert num_cases(ran.stdout) >= least, ran.stdout[-3000:]

    return run


def num_cases(told: str) -> int:
    """Return how many test cases Schemathesis says it has generated."""
    line = next(line for line in told.splitlines() if " generated" in line)
    return int(line.split()[0].replace(",", ""))


def test_openais_description_holds_of_the_gateway(fuzz: Fuzz) -> None:
    document = json.loads(OPENAI.read_text())
    schemas = document["components"]["schemas"]
    schemas["ModelIdsShared"] = PINNED
    for name in ("CreateEmbeddingRequest", "CreateCompletionRequest"):
        schemas[name]["properties"]["model"] = PINNED
    document["paths"]["/models/{model}"]["get"]["parameters"][0]["schema"] = PINNED

    fuzz(document, base="/v1", least=1000)


def test_the_gateways_own_description_is_true_in_every_respect(running_stack, fuzz: Fuzz) -> None:
    with urllib.request.urlopen(f"{running_stack.url}/openapi.json", timeout=5) as answer:
        document = json.load(answer)
    for name in ("ChatRequest", "CompletionRequest", "EmbeddingRequest", "ClassifyRequest"):
        document["components"]["schemas"][name]["properties"]["model"] = PINNED
    document["paths"]["/v1/models/{model}"]["get"]["parameters"][0]["schema"] = PINNED

    fuzz(document, checks="all", least=1000)
