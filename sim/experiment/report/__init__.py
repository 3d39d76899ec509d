"""What a run looks like to a reader: one offline page, plain files for machines, and a table on the terminal.

Start at `write_reports`. Everything here reads records and summaries; nothing here measures or judges.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.experiment.record import RunRecord
from sim.experiment.schema import Scenario

REPORT_HTML = "report.html"


def write_reports(
    record: RunRecord, scenario: Scenario, summary: Mapping[str, Any], directory: Path, other: RunRecord | None = None
) -> None:
    """Write report.html, summary.json, summary.csv, requests.csv and junit.xml into a directory that is there.

    `other` is a run of another rung to hold this one against in the page.
    """
    from sim.experiment.junit import write_junit
    from sim.experiment.report.files import write_requests, write_summary
    from sim.experiment.report.page import render

    write_summary(summary, directory)
    write_requests(record, scenario, directory)
    write_junit(summary, directory)
    (directory / REPORT_HTML).write_text(render(record, scenario, summary, other), encoding="utf-8")
