"""The plain files beside the page: summary.json, summary.csv, requests.csv. The same for the same record."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from math import isnan
from pathlib import Path
from typing import Any

from sim.experiment.columns import Floats, requests_of
from sim.experiment.measures import window_of
from sim.experiment.record import REQUEST_COLUMNS, RunRecord
from sim.experiment.report.tables import summary_rows
from sim.experiment.schema import Scenario
from sim.experiment.slo import good, slos_of
from sim.experiment.store import write_json

SUMMARY_JSON = "summary.json"
SUMMARY_CSV = "summary.csv"
REQUESTS_CSV = "requests.csv"

_DERIVED = ("ttft_seconds", "ttft_from_sent_seconds", "tpot_seconds", "e2e_seconds", "send_lag_seconds")


def write_summary(summary: Mapping[str, Any], directory: Path) -> None:
    """Write the summary as JSON and as a table."""
    write_json(directory / SUMMARY_JSON, summary)
    with (directory / SUMMARY_CSV).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("of", "group", "measure", "value", "low", "high"))
        for row in summary_rows(summary):
            writer.writerow(["" if item is None else item for item in row])


def write_requests(record: RunRecord, scenario: Scenario, directory: Path) -> None:
    """Write a row a request: what the record says, the latencies that follow, if it counts, if it was good."""
    requests = requests_of(record)
    derived = {name: _text(getattr(requests, name.removesuffix("_seconds"))) for name in _DERIVED}
    counts = window_of(record).holds(requests.scheduled).astype(int).tolist()
    is_good = good(requests, slos_of(scenario.workload.classes)).astype(int).tolist()
    columns = [[_cell(value) for value in record.requests[name]] for name in REQUEST_COLUMNS]
    with (directory / REQUESTS_CSV).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*REQUEST_COLUMNS, *derived, "is_in_window", "is_good"))
        writer.writerows(zip(*columns, *derived.values(), counts, is_good, strict=True))


def _text(values: Floats) -> list[str]:
    return ["" if isnan(value) else f"{value:.9g}" for value in values.tolist()]


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if isnan(value) else f"{value:.9g}"
    return "" if value is None else value
