"""The page: one HTML file that asks nothing of the network. Words and tables are in it as they are; charts are drawn on
opening, by plotly.js, which travels inside the page compressed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from sim.experiment.comparison import compare
from sim.experiment.record import RunRecord
from sim.experiment.report import sections
from sim.experiment.report.charts import charts
from sim.experiment.report.markup import Markup, joined, tag
from sim.experiment.schema import Scenario

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""Content security policy of the page: whatever it holds, nothing leaves it and nothing comes in."""


PLOTLY = "vendor/plotly-cartesian-4.1.1.min.js.gz"
"""See vendor/README.md."""


def render(record: RunRecord, scenario: Scenario, summary: Mapping[str, Any], other: RunRecord | None = None) -> str:
    """Render a run's page; `other` is a run of another rung to hold it against. Same record, same page."""
    comparison = None
    if other is not None:
        comparison = compare(record, other, scenario, scenario, names=(record.rung, other.rung))
    if not summary["validity"]["is_valid"]:
        body = joined((sections.header(summary), sections.validity(summary), *_account(record, summary)))
        return page(f"{summary['scenario']} · {summary['rung']}", body, None)
    drawn = charts(record, scenario, comparison)
    body = joined(
        (
            sections.header(summary),
            sections.verdicts(summary),
            sections.key_figures(summary),
            sections.attainment(),
            sections.latency(summary),
            sections.timeline(summary),
            sections.replicas(drawn["heat"]),
            sections.prediction(comparison) if comparison is not None else "",
            sections.cost(summary, record.facts),
            sections.validity(summary),
            *_account(record, summary),
        )
    )
    return page(f"{summary['scenario']} · {summary['rung']}", body, drawn)


def page(title: str, body: Markup, drawn: Mapping[str, Any] | None) -> str:
    """Put a page together; without anything to draw, plotly stays out of it."""
    scripts = ""
    if drawn is not None:
        scripts = joined(
            (
                tag("script", Markup(_in_script(drawn)), type="application/json", id="drawn"),
                tag("script", Markup(_plotly()), type="text/plain", id="plotly"),
                tag("script", Markup(_asset("page.js"))),
            )
        )
    head = (
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<link rel="icon" href="data:,">',
        tag("title", title),
        tag("style", Markup(_asset("page.css"))),
    )
    main = tag("main", body, sections.definitions(), _until_drawn(drawn))
    return f'<!doctype html>\n<html lang="en"><head>{"".join(head)}</head><body>{main}{scripts}</body></html>\n'


def _until_drawn(drawn: Mapping[str, Any] | None) -> Markup:
    """Say what a reader sees who has no charts; the script takes it away when it has drawn them."""
    said = "Charts need JavaScript in a browser of 2023 or later; every figure is in the tables."
    return tag("p", said, class_="small", id="until-drawn") if drawn is not None else Markup("")


def _account(record: RunRecord, summary: Mapping[str, Any]) -> tuple[Markup, ...]:
    return (
        sections.account(summary),
        sections.decisions(summary),
        sections.left_out(summary),
        sections.scenario(record.scenario_yaml),
    )


def _in_script(value: Any) -> str:
    """Write JSON so that no text in it can end the script element."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _plotly() -> str:
    """Return plotly.js, compressed, as text: a third of its size, and the browser unpacks it itself."""
    return base64.b64encode(files(__package__).joinpath(PLOTLY).read_bytes()).decode()
