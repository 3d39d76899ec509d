"""The chat page in a real Chromium, on the real stack: an answer streams, stops, and failures are told in words."""

from __future__ import annotations

import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
]

YAML = """\
windtunnel: 1
name: page
workload: {arrivals: {process: constant, rate: 1/s}, duration: 1h, lengths: {input: 10, output: 10}}
cluster:
  router: {health_interval: 500ms}
  pools:
    - {model: tiny-chat, replicas: 1, step_cost: {base: 30ms}, num_gpu_blocks: 2000, max_model_len: 4000}
"""


class Served:
    """A stack with its page, running."""

    def __init__(self, stack: Any, page: Any, crew: Any) -> None:
        self.stack, self.page, self.crew = stack, page, crew
        self.key = next(iter(stack.keys.values()))

    @property
    def running(self) -> float:
        """Sequences in the worker's batch."""
        with urllib.request.urlopen(self.stack.workers["vllm-0"].url + "/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("vllm:num_requests_running"))

    def await_running(self, wanted: float) -> None:
        deadline = time.monotonic() + 10
        while (now := self.running) != wanted:
            assert time.monotonic() < deadline, f"{now} sequences run; expected {wanted}"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from e2e.commands.serve import add_page
    from e2e.rungs.processes import Crew
    from e2e.rungs.stack import add_stack
    from sim.experiment.scenario import parse

    with Crew(tmp_path_factory.mktemp("stack")) as crew:
        stack = add_stack(crew, parse(YAML))
        page = add_page(crew, stack)
        stack.start()
        crew.start(page)
        crew.wait_until_ready([page])
        yield Served(stack, page, crew)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A tab on the page that remembers what it complained about and where it sent requests."""

    def __init__(self, browser: Any, served: Served, width: int = 1280, key: str | None = None) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme="dark" if width < 500 else "light"
        )
        self.tab = self.context.new_page()
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.tab.on(
            "console", lambda message: self.complaints.append(message.text) if message.type == "error" else None
        )
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        self.tab.goto(served.page.url)
        if key is not None:
            self.enter(key)

    def enter(self, key: str) -> None:
        self.tab.locator("#key-dialog").wait_for(state="visible")
        self.tab.fill("#key", key)
        self.tab.click("#key-save")

    def ask(self, text: str) -> None:
        self.tab.fill("#question", text)
        self.tab.press("#question", "Enter")

    def await_models(self) -> None:
        until(lambda: self.tab.input_value("#model") == "tiny-chat", "the models are there")

    def await_text(self, length: int) -> None:
        text = self.tab.locator("article.answer .text")
        until(lambda: text.count() > 0 and len(text.last.inner_text()) > length, f"the answer has {length} characters")

    @property
    def answer(self) -> str:
        return self.tab.locator("article.answer .text").last.inner_text()


def until(is_so: Callable[[], bool], what: str) -> None:
    """Poll from outside: a strict Content-Security-Policy keeps the page from evaluating strings."""
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline, f"within 20 s it did not come to: {what}"
        time.sleep(0.05)


def visit(browser: Any, served: Served, **options: Any) -> Visit:
    visited = Visit(browser, served, key=served.key, **options)
    visited.await_models()
    return visited


def test_an_answer_streams_token_by_token_with_its_figures(chromium: Any, served: Served) -> None:
    visited = visit(chromium, served)
    visited.complaints.clear()  # the first look at the models, without a key, is told as an error
    visited.ask("How does lift come about?")
    lengths = []
    while visited.tab.locator("article.answer.running").count():
        lengths.append(len(visited.answer))
        time.sleep(0.05)
    figures = visited.tab.locator("article.answer dl").inner_text()

    assert len(set(lengths)) > 5, "the answer grew while it came"
    assert all(word in figures for word in ("tokens", "TTFT", "TPOT"))
    assert visited.complaints == []
    assert visited.hosts == {url.split("/")[2] for url in (served.page.url, served.stack.gateway.url)}


def test_stopping_frees_the_seat_and_keeps_what_was_written(chromium: Any, served: Served) -> None:
    visited = visit(chromium, served)
    visited.ask("Tell me a very long story about a glider in the evening " + "wind " * 40)
    visited.await_text(10)
    served.await_running(1)
    visited.tab.press("body", "Escape")

    served.await_running(0)
    visited.tab.locator("#send").wait_for(state="visible")
    assert len(visited.answer) > 10
    assert visited.tab.locator(".error").count() == 0


def test_a_wrong_key_is_told_in_words_and_asked_for_again(chromium: Any, served: Served) -> None:
    visited = Visit(chromium, served, key="wrong")
    visited.tab.locator("#notice").wait_for(state="visible")

    assert "API key was not accepted" in visited.tab.inner_text("#notice")
    visited.enter(served.key)
    visited.await_models()
    assert visited.tab.locator("#notice").is_hidden()


def test_the_page_fits_a_phone_and_speaks_to_a_screen_reader(chromium: Any, served: Served, tmp_path: Path) -> None:
    visited = visit(chromium, served, width=390)
    visited.ask("Hello\n" + "a-very-long-word-without-any-break" * 8)
    visited.tab.wait_for_selector("article.answer dl", timeout=30_000)
    visited.tab.screenshot(path=str(tmp_path / "phone.png"))

    assert visited.tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert visited.tab.get_by_role("textbox", name="Your question").count() == 1
    assert visited.tab.get_by_role("combobox", name="Model").count() == 1
    assert visited.tab.get_by_role("status").count() == 1


def test_a_dead_worker_is_told_in_words_and_the_question_is_kept(chromium: Any, served: Served) -> None:
    visited = visit(chromium, served)
    visited.await_models()
    worker = served.stack.workers["vllm-0"]
    visited.ask("Tell me a long story " + "again " * 40)
    visited.await_text(10)
    served.crew.kill(worker)
    visited.tab.locator(".error").wait_for(timeout=20_000)
    broken = visited.tab.inner_text(".error")
    visited.tab.click("#clear")
    visited.ask("Are you there?")
    visited.tab.locator(".error").wait_for(timeout=20_000)
    gone = visited.tab.inner_text(".error")
    kept = visited.tab.input_value("#question")
    served.crew.start(worker)
    served.crew.wait_until_ready([worker])

    assert "broke off" in broken
    assert "No model server can take the question" in gone
    assert kept == "Are you there?"
