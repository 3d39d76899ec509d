"""The report in a real Chromium: nothing complains, nothing is asked of the network, and it fits, wide and narrow."""

import shutil
from collections.abc import Iterator
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
name: page-test
about: Two minutes with a crash.
seed: 3
workload:
  arrivals: {process: poisson, rate: 8/s}
  duration: 2m
  lengths: {input: 200, output: 60}
  classes:
    - {name: chat, share: 3, slo: {ttft: 300ms, tpot: 40ms}}
    - {name: batch, share: 1, slo: {e2e: 30s}}
cluster:
  pools:
    - model: m
      step_cost: {base: 12ms, per_prefill_token: 40us, per_sequence: 100us}
      replicas: 3
      num_gpu_blocks: 4000
      cold_start: 20s
faults: [{at: 50s, kind: replica_crash, target: vllm-1, lasts: 20s}]
measure: {warm_up: 10s}
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of a run and that of a comparison."""
    from sim.cluster import fly
    from sim.experiment.comparison import compare
    from sim.experiment.generate import build_workload
    from sim.experiment.report.comparison_page import render_comparison
    from sim.experiment.report.page import render
    from sim.experiment.scenario import parse
    from sim.experiment.summary import summarise

    directory = tmp_path_factory.mktemp("pages")
    loaded, fewer = parse(YAML), parse(YAML, overrides=["cluster.pools.0.replicas=2"])
    record, other = (fly(one, build_workload(one)) for one in (loaded, fewer))
    pages = {"run": directory / "report.html", "comparison": directory / "comparison.html"}
    pages["run"].write_text(render(record, loaded.scenario, summarise(record, loaded.scenario)), encoding="utf-8")
    comparison = compare(record, other, loaded.scenario, fewer.scenario)
    pages["comparison"].write_text(render_comparison(comparison), encoding="utf-8")
    return pages


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    """Give a function that opens a page and returns it with what went wrong on it."""
    contexts = []

    def open_page(path: Path, width: int, scheme: str) -> tuple[Any, list[str]]:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page, wrong = context.new_page(), []
        page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-drawn=yes]", timeout=30_000, state="attached")
        return page, wrong

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("which", ["run", "comparison"])
def test_a_page_draws_its_charts_without_complaint_and_fits(
    pages: dict[str, Path], opened: Any, which: str, width: int, scheme: str
) -> None:
    page, wrong = opened(pages[which], width, scheme)

    assert wrong == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".chart:not(:has(.main-svg))").count() == 0
    assert page.locator("h2").first.is_visible()


def test_light_and_dark_differ_and_change_while_the_page_is_open(pages: dict[str, Path], opened: Any) -> None:
    page, wrong = opened(pages["run"], 1280, "light")
    ground = "getComputedStyle(document.body).backgroundColor"
    tick = "getComputedStyle(document.querySelector('#timeline-chart .xtick text')).fill"
    light = page.evaluate(f"[{ground}, {tick}]")

    page.emulate_media(color_scheme="dark")
    # the page's own policy forbids the evaluation of strings, so waiting is done out here
    for _ in range(100):
        if page.evaluate(tick) != light[1]:
            break
        page.wait_for_timeout(100)

    assert page.evaluate(tick) != light[1]
    assert page.evaluate(ground) != light[0]
    assert wrong == []


def test_the_heat_map_changes_its_measure(pages: dict[str, Path], opened: Any) -> None:
    page, wrong = opened(pages["run"], 1280, "light")
    assert page.locator("button[aria-pressed=true]").inner_text() == "Running"

    page.get_by_role("button", name="KV cache usage").click()

    assert page.locator("button[aria-pressed=true]").inner_text() == "KV cache usage"
    assert wrong == []


def test_words_can_be_read_without_any_script(pages: dict[str, Path], browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(pages["run"].as_uri())

    assert page.get_by_text("every figure is in the tables").is_visible()
    assert page.locator(".card").count() == 2
    context.close()
