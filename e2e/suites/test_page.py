"""The chat page in a real Chromium, through load balancer, ingress and TLS: a question, a streamed answer."""

import base64
import hashlib
import shutil
import time

import pytest

from e2e.cluster.place import PAGE_HOST
from e2e.cluster.stack import MODEL

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="not run here, because no Chromium is installed")


def public_key(place, kubectl) -> str:
    """Return the hash by which Chromium is told which key to trust: its own store does not know our authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    told = kubectl("get", "secret", "llm-tls", "-o", "jsonpath={.data.tls\\.crt}")
    key = x509.load_pem_x509_certificate(base64.b64decode(told)).public_key()
    raw = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(raw).digest()).decode()


@pytest.fixture
def tab(place, door, kubectl):
    """A tab of a Chromium that knows the cluster's hosts and its key, and no other's."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="not run here, because playwright is not installed")
    arguments = [
        "--no-sandbox",
        f"--host-resolver-rules=MAP *.windtunnel.test {door.address}",
        f"--ignore-certificate-errors-spki-list={public_key(place, kubectl)}",
    ]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser.new_page()
        browser.close()


def test_a_question_is_answered_token_by_token(tab, place, findings, figure) -> None:
    complaints = []
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(f"https://{PAGE_HOST}/")
    tab.locator("#key-dialog").wait_for(state="visible")
    tab.fill("#key", place.api_key)
    tab.click("#key-save")
    tab.locator(f'#model option[value="{MODEL}"]').wait_for(state="attached")
    tab.select_option("#model", MODEL)
    tab.fill("#question", "How does lift come about?")
    tab.press("#question", "Enter")
    tab.locator("article.answer.running").wait_for(state="attached")
    lengths = []
    while tab.locator("article.answer.running").count():
        lengths.append(len(tab.locator("article.answer .text").last.inner_text()))
        time.sleep(0.05)
    tab.screenshot(path=str(findings / "page.png"))

    assert len(set(lengths)) > 5, "the answer grew while it came"
    assert complaints == []
    said = tab.locator("article.answer dl").inner_text()
    assert "TTFT" in said
    figure(f"page in Chromium: {' '.join(said.split())}")
