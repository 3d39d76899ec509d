"""The page of a plan: the answer, what it stands on, and the frontier as picture and table."""

from __future__ import annotations

from typing import Any

from sim.capacity.planning import Answer
from sim.experiment.report.markup import Markup, chart, joined, mark, section, table, tag
from sim.experiment.report.page import page
from sim.experiment.report.sections import scenario as scenario_text
from sim.experiment.report.tables import money, number, share


def render_plan(answer: Answer) -> str:
    """Render an answer. Same answer, same page."""
    rows = answer.rows()
    targets = {kind.name: kind.slo.attainment for kind in answer.loaded.scenario.workload.classes}
    body = joined(
        (
            _header(answer),
            _tiles(answer, rows),
            _frontier(),
            _candidates(answer, rows),
            _skipped(answer),
            scenario_text(answer.loaded.yaml_text),
        )
    )
    drawn = {"frontier": [_point(row) for row in rows], "targets": targets, "priced": answer.minimise != "gpus"}
    return page(f"plan · {answer.loaded.scenario.name}", body, drawn)


def _header(answer: Answer) -> Markup:
    kind, words = ("pass", "Found") if answer.best else ("fail", "Nothing meets")
    badge = tag("p", mark(kind), " ", words, class_=f"outcome {kind}")
    said = [answer.binding, answer.headroom_sentence] if answer.best else []
    if answer.best is not None and answer.best.is_close:
        said.append("It is a close call: the confidence bounds did not part from the target.")
    return tag(
        "header",
        badge,
        tag("h1", answer.loaded.scenario.name),
        tag("p", answer.sentence, class_="lead"),
        *(tag("p", sentence) for sentence in said if sentence),
    )


def _tiles(answer: Answer, rows: list[dict[str, Any]]) -> Markup:
    best = next((row for row in rows if row["is_best"]), None)
    if best is None:
        return Markup("")
    seconds = best.get("output_tokens_per_second", 0.0)
    tiles = [
        ("Replicas", str(best["replicas"]), f"{best['gpus']} GPUs; a perfect system: {best['perfect_replicas']}"),
        ("SLO attainment", share(min(best["attainment"].values())), f"over {best['flights']} flights"),
        (
            "Tokens/s per GPU",
            number(seconds / best["gpus"]),
            f"{number(best.get('tokens_per_second_per_user'))} tokens/s for a user, median",
        ),
    ]
    if answer.minimise != "gpus":
        per_million = best["price"] / max(seconds * 3600 / 1e6, 1e-9)
        tiles.insert(1, ("Cost", f"{money(best['price'])}/h", f"{money(per_million)} per million output tokens"))
    elif answer.headroom is not None:
        tiles.append(("Headroom", f"{answer.headroom.factor - 1:.0%}", "more traffic"))
    made = [tag("div", tag("dt", a), tag("dd", b), tag("dd", c, class_="small")) for a, b, c in tiles]
    return section("answer", "The answer", tag("dl", *made, class_="tiles"))


def _frontier() -> Markup:
    return section(
        "frontier",
        "What else was flown",
        tag(
            "div",
            tag("figure", tag("figcaption", "Attainment against cost"), chart("frontier-cost", "attainment by cost")),
            tag(
                "figure",
                tag("figcaption", "Speed for a user against use of a GPU"),
                chart("frontier-speed", "tokens per second per GPU by tokens per second per user"),
            ),
            class_="pair",
        ),
        about="Each point is a cluster that was flown; the star is the answer. A point below the dotted line misses "
        "an SLO.",
    )


def _candidates(answer: Answer, rows: list[dict[str, Any]]) -> Markup:
    unit = "GPUs" if answer.minimise == "gpus" else "$/h"
    head = ("option", "", "replicas", unit, "good", "tokens/s/GPU", "tokens/s/user", "a perfect system")
    lines = [
        (
            joined((row["option"] or "as the scenario has it", tag("strong", " ★") if row["is_best"] else "")),
            joined((mark("pass" if row["finding"] == "meets" else "fail"), " close" if row["is_close"] else "")),
            row["replicas"],
            number(row["price"]) if answer.minimise == "gpus" else f"{row['price']:,.2f}",
            ", ".join(f"{name} {share(value)}" for name, value in row["attainment"].items()),
            number(row.get("output_tokens_per_second", 0.0) / row["gpus"]),
            number(row.get("tokens_per_second_per_user")),
            row["perfect_replicas"],
        )
        for row in rows
    ]
    about = "A perfect system has no queue, no idle moment and full batches; nothing real needs fewer replicas."
    return section("candidates", "Every cluster flown, cheapest first", table(head, lines, numeric_from=2), about=about)


def _skipped(answer: Answer) -> Markup:
    if not answer.skipped:
        return Markup("")
    items = (tag("li", f"{skipped.option.label}: {skipped.reason}") for skipped in answer.skipped)
    return section("skipped", "Not flown", tag("ul", *items, class_="notes"))


def _point(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "option": row["option"] or "as it is",
        "replicas": row["replicas"],
        "price": row["price"],
        "share": min(row["attainment"].values(), default=1.0),
        "per_gpu": row.get("output_tokens_per_second", 0.0) / row["gpus"],
        "per_user": row.get("tokens_per_second_per_user", 0.0),
        "meets": row["finding"] == "meets",
        "best": row["is_best"],
    }
