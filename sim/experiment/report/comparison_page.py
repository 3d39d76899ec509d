"""The page of a comparison: what got worse first, every difference with its bounds, and the quantiles of both runs."""

from __future__ import annotations

from sim.experiment.comparison import Comparison
from sim.experiment.differences import Row
from sim.experiment.report.markup import Markup, chart, joined, mark, section, table, tag
from sim.experiment.report.page import page
from sim.experiment.report.sections import prediction
from sim.experiment.report.tables import MEASURE_NAMES, NOTHING, change, figure

ORDER = {"worse": 0, "better": 1, "unclear": 2, "same": 3, "shown": 4, "withheld": 5}


def render_comparison(comparison: Comparison) -> str:
    """Render a comparison. Same comparison, same page."""
    a, b = comparison.names
    title = f"{b} against {a}"
    body = joined(
        (_header(comparison, title), _worse(comparison), prediction(comparison), _rows(comparison), _notes(comparison))
    )
    curves = {name: dict(curve) for name, curve in comparison.quantile_curves.items()}
    return page(title, body, {"errors": curves, "names": [a, b]} if curves else None)


def headline(comparison: Comparison) -> tuple[str, str]:
    """Return the outcome of a comparison, as a kind and as a sentence."""
    if not comparison.rows:
        return "invalid", "cannot be compared"
    if comparison.agreement is not None:
        return ("pass" if comparison.agreement.agrees else "unclear"), comparison.agreement.text
    if num_worse := len(comparison.worse):
        return "fail", f"{num_worse} figure{'s' if num_worse > 1 else ''} got significantly worse"
    return "pass", "nothing got significantly worse"


def _header(comparison: Comparison, title: str) -> Markup:
    kind, sentence = headline(comparison)
    pairs = f"{comparison.num_pairs:,} pairs of requests" if comparison.is_paired else "not paired"
    facts = (
        ("rungs", " and ".join(comparison.rungs)),
        ("requests", pairs),
        ("smallest change that counts", f"{comparison.minimal_effect:.0%}"),
    )
    listed = tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts), class_="facts")
    short = {"pass": "Not worse", "fail": "Worse", "invalid": "Invalid", "unclear": "Apart"}[kind]
    if comparison.agreement is not None and kind == "pass":
        short = "Agrees"
    shape = "invalid" if kind == "unclear" else kind
    badge = tag("p", mark(shape), " ", short, class_=f"outcome {shape}")
    return tag("header", badge, tag("h1", title), tag("p", sentence, class_="lead"), listed)


def _worse(comparison: Comparison) -> Markup:
    if not comparison.worse or comparison.agreement is not None:
        return Markup("")
    cards = [
        tag(
            "article",
            tag("p", mark("worse"), " ", f"{_name(row)}, {row.group}", class_="state"),
            tag("p", change(row, with_bounds=False), class_="figure"),
            tag("p", f"{figure(row.measure, row.a)} became {figure(row.measure, row.b)}", class_="small"),
            class_="card fail",
        )
        for row in comparison.worse
    ]
    return section("worse", "What got worse", tag("div", *cards, class_="cards"))


def _rows(comparison: Comparison) -> Markup:
    if not comparison.rows:
        return Markup("")
    ordered = sorted(comparison.rows, key=lambda row: ORDER[row.verdict])
    rows = [
        (
            row.group,
            _name(row),
            joined((mark(row.verdict), " ", "" if row.verdict == "shown" else row.verdict)),
            figure(row.measure, row.a),
            figure(row.measure, row.b),
            change(row, with_bounds=False),
            NOTHING if row.low is None else change(row).partition(" [")[2].rstrip("]"),
        )
        for row in ordered
    ]
    about = (
        "A row is better or worse when its 99 % interval excludes no difference and the change is large enough to "
        "count. "
        "Rates and costs carry no verdict: rates follow from the load, and cost is a choice."
    )
    head = ("class", "measure", "verdict", *comparison.names, "change", "99 % interval")
    curves = (
        ""
        if comparison.agreement is not None or not comparison.quantile_curves
        else tag(
            "figure", tag("figcaption", "Change per quantile"), chart("errors", "relative change of each quantile")
        )
    )
    return section("differences", "Every difference", table(head, rows, numeric_from=3), curves, about=about)


def _notes(comparison: Comparison) -> Markup:
    if not comparison.notes:
        return Markup("")
    return section("notes", "What to know", tag("ul", *(tag("li", note) for note in comparison.notes), class_="notes"))


def _name(row: Row) -> str:
    return f"{MEASURE_NAMES[row.measure]} {row.at}".strip()
