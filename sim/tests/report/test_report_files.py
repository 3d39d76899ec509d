"""The page asks nothing of the network, says verdicts first, escapes what others wrote; the plain files agree."""

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from sim.experiment.comparison import compare
from sim.experiment.record import RunRecord
from sim.experiment.report import write_reports
from sim.experiment.report.comparison_page import render_comparison
from sim.experiment.report.page import render
from sim.experiment.report.tables import duration, share
from sim.experiment.report.terminal import print_comparison, print_summary
from sim.experiment.samples import Samples
from sim.experiment.schema import Scenario
from sim.experiment.store import write
from sim.experiment.summary import summarise

HOSTILE = "</script><img src=x onerror=alert(1)>&"


class Page(HTMLParser):
    """Collects elements and checks that every one is closed."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)


@pytest.fixture
def html(record: RunRecord, scenario: Scenario) -> str:
    return render(record, scenario, summarise(record, scenario))


def test_verdicts_come_first_and_every_part_is_there(html: str) -> None:
    headings = Page(html).headings

    assert headings[0] == "Verdicts"
    assert {"SLO attainment", "Latency", "Timeline", "Replicas", "Cost", "Validity", "Workload", "Scenario"} <= set(
        headings
    )


def test_the_page_names_no_other_place(html: str) -> None:
    page = Page(html)

    for tag, attributes in page.seen:
        for name in ("src", "href", "action", "data"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    assert "default-src 'none'" in html
    assert "@import" not in html
    assert not re.search(r"url\((?!data:)", html)


def test_a_page_is_the_same_for_the_same_record_and_small(record: RunRecord, scenario: Scenario, html: str) -> None:
    record.diagnostics["wall_seconds"] = 5.0

    assert render(record, scenario, summarise(record, scenario)) == html
    assert len(html) < 1_000_000


def test_text_of_others_stays_text(record: RunRecord, scenario: Scenario) -> None:
    record.scenario_name = record.scenario_yaml = HOSTILE
    record.requests["reason"] = [HOSTILE if reason else "" for reason in record.requests["reason"]]
    record.events[0]["target"] = HOSTILE
    record.decisions = [(*row[:4], HOSTILE, ()) for row in record.decisions]
    record.left_out = [HOSTILE]

    page = Page(render(record, scenario, summarise(record, scenario)))

    assert "img" not in [tag for tag, _ in page.seen]
    assert [tag for tag, _ in page.seen].count("script") == 3
    assert "".join(page.words).count(HOSTILE) >= 5


def test_an_invalid_run_gets_a_page_that_says_why_and_draws_nothing(record: RunRecord, scenario: Scenario) -> None:
    record.requests["sent"] = [at + 0.3 for at in record.requests["scheduled"]]

    page = Page(render(record, scenario, summarise(record, scenario)))

    assert page.headings[0] == "Validity"
    assert "Latency" not in page.headings
    assert "script" not in [tag for tag, _ in page.seen]
    assert any("The load generator was late" in words for words in page.words)


def test_a_second_run_of_another_rung_adds_prediction_against_measurement(
    record: RunRecord, measured: RunRecord, scenario: Scenario
) -> None:
    text = render(measured, scenario, summarise(measured, scenario), record)

    assert "Predicted against measured" in Page(text).headings
    assert "no (TTFT from sent -17%" in text
    assert "Left out on local" in Page(text).headings


def test_a_record_without_samples_still_gives_a_page(record: RunRecord, scenario: Scenario) -> None:
    bare = replace(record, samples=Samples(), gaps=[], decisions=[], events=[], facts={})

    headings = Page(render(bare, scenario, summarise(bare, scenario))).headings

    assert "Replicas" not in headings
    assert "Timeline" in headings


def test_the_page_of_a_comparison_says_what_got_worse_first(
    record: RunRecord, measured: RunRecord, scenario: Scenario
) -> None:
    slower = replace(measured, rung="sim")

    page = Page(render_comparison(compare(record, slower, scenario, scenario, names=("before", "after"))))

    assert page.headings[:2] == ["What got worse", "Every difference"]
    assert "after against before" in page.words


def test_the_plain_files_agree_with_the_summary(record: RunRecord, scenario: Scenario, tmp_path: Path) -> None:
    summary = summarise(record, scenario)

    write_reports(record, scenario, summary, tmp_path)

    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    with (tmp_path / "requests.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 600
    counted = [row for row in rows if row["is_in_window"] == "1"]
    everything = summary["classes"]["all"]
    assert len(counted) == everything["num_requests"]
    assert sum(row["is_good"] == "1" for row in counted) == everything["num_good"]
    with (tmp_path / "summary.csv").open() as file:
        figures = {
            (row["group"], row["measure"]): row["value"] for row in csv.DictReader(file) if row["of"] == "classes"
        }
    assert float(figures["chat", "slo_attainment"]) == summary["classes"]["chat"]["slo_attainment"]
    p95 = summary["classes"]["chat"]["latency_seconds"]["ttft"]["percentiles"]["p95"]["value"]
    assert float(figures["chat", "ttft_p95_seconds"]) == p95


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_says_verdicts_first_and_stays_within_its_width(
    record: RunRecord, measured: RunRecord, scenario: Scenario, width: int
) -> None:
    out = StringIO()
    console = Console(file=out, width=width, force_terminal=False)

    print_summary(summarise(record, scenario), console, Path("runs/made-sim-1"))
    print_comparison(compare(record, replace(measured, rung="sim"), scenario, scenario), console)
    print_comparison(compare(record, measured, scenario, scenario), console)

    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert lines[1].startswith("✗ made by formula on sim: failed")
    text = out.getvalue()
    assert text.index("all.error_rate < 0.001") < text.index("TTFT") < text.index("got significantly worse")
    assert "because" in " ".join(text.split())


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "–"),
        (0.0, "0 ms"),
        (2e-5, "20 µs"),
        (0.0876, "87.6 ms"),
        (0.99999, "1 s"),
        (59.94, "59.9 s"),
        (7201, "2 h"),
    ],
)
def test_durations_carry_a_unit_that_suits_them(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


def test_nearly_all_is_not_all_and_nearly_none_not_none() -> None:
    assert [share(value) for value in (1.0, 0.999999, 0.5, 1e-6, 0.0, None)] == [
        "100 %",
        ">99.99 %",
        "50 %",
        "<0.01 %",
        "0 %",
        "–",
    ]


def test_a_report_can_be_written_again_from_the_stored_run(
    record: RunRecord, scenario: Scenario, tmp_path: Path
) -> None:
    from sim.experiment.store import read, scenario_of

    write(record, tmp_path / "run")
    again = read(tmp_path / "run")

    assert scenario_of(again) == scenario
    assert render(again, scenario, summarise(again, scenario)) == render(record, scenario, summarise(record, scenario))
