"""The page of a plan: the answer, what it stands on, and the frontier as picture and table."""

from __future__ import annotations

from typing import Any

from sim.capacity.answer import Answer
from sim.capacity.repeats import Repeats, in_short
from sim.capacity.together import Choice
from sim.experiment.report.markup import Markup, chart, joined, mark, section, table, tag
from sim.experiment.report.page import page
from sim.experiment.report.sections import scenario as scenario_text
from sim.experiment.report.tables import money, number, share


def render_plan(answer: Answer, repeats: Repeats | None = None) -> str:
    """Render an answer. Same answer, same page."""
    rows = answer.rows()
    targets = {kind.name: kind.slo.attainment for kind in answer.loaded.scenario.workload.classes}
    body = joined(
        (
            _header(answer, repeats),
            _tiles(answer, answer.choice) if answer.choice else "",
            _frontier(),
            _candidates(answer, rows),
            _seeds(repeats) if repeats else "",
            _skipped(answer),
            scenario_text(answer.loaded.yaml_text),
        )
    )
    drawn = {"frontier": [_point(row) for row in rows], "targets": targets, "priced": answer.minimise != "gpus"}
    return page(f"plan · {answer.loaded.scenario.name}", body, drawn)


def _header(answer: Answer, repeats: Repeats | None) -> Markup:
    kind, words = ("pass", "Found") if answer.choice else ("fail", "Nothing meets")
    badge = tag("p", mark(kind), " ", words, class_=f"outcome {kind}")
    said = [f"{answer.binding} {answer.headroom_sentence}", f"{answer.bound} {answer.ties}"] if answer.choice else []
    if answer.choice is not None and answer.choice.is_close:
        said.append("It is a close call: the confidence bounds did not part from the target.")
    if repeats is not None:
        said.append(repeats.sentence)
    return tag(
        "header",
        badge,
        tag("h1", answer.loaded.scenario.name),
        tag("p", answer.sentence, class_="lead"),
        *(tag("p", sentence, class_="about") for sentence in said if sentence.strip()),
    )


def _tiles(answer: Answer, choice: Choice) -> Markup:
    figures = [part.probes[0].figures for part in choice.parts]
    tokens = sum(flight.get("output_tokens_per_second", 0.0) for flight in figures)
    users = [number(flight.get("tokens_per_second_per_user")) for flight in figures]
    replicas = " + ".join(str(one.replicas) for one in choice.candidates)
    perfect = " + ".join(str(one.option.perfect) for one in choice.candidates)
    per_million = f"{money(choice.price / max(tokens * 3600 / 1e6, 1e-9))} per million output tokens"
    gpus = f"{choice.gpus} GPU{'' if choice.gpus == 1 else 's'}"
    is_priced = answer.minimise != "gpus"
    cost = (f"{money(choice.price)}/h", per_million) if is_priced else (gpus, "what is minimised")
    bound = f"{money(choice.perfect_price)}/h" if is_priced else answer.money(choice.perfect_price)
    tiles = [
        ("Cost", *cost),
        ("Replicas", replicas, gpus),
        ("Lower bound", bound, f"a perfect system: {perfect} replica{'' if perfect == '1' else 's'}"),
        ("SLO attainment", share(min(choice.attainment.values())), "of the class that fares worst"),
        ("Headroom", *_headroom(answer)),
        ("Binding SLO", *_binding(choice, answer)),
        ("Use of a GPU", f"{number(tokens / choice.gpus)} tokens/s", "output, each GPU"),
        ("Speed for a user", f"{', '.join(users)} tokens/s", "median of the answers"),
    ]
    made = [tag("div", tag("dt", a), tag("dd", b), tag("dd", c, class_="small")) for a, b, c in tiles]
    return section("answer", "The answer", tag("dl", *made, class_="tiles"), about=answer.price_note)


def _headroom(answer: Answer) -> tuple[str, str]:
    found = answer.headroom
    if found is None:
        return "–", "not asked"
    if found.broken_at is None:
        return f"over {found.factor - 1:.0%}", "more traffic"
    return f"{found.factor - 1:.0%}", f"more traffic; breaks at {found.broken_at - 1:.0%}"


def _binding(choice: Choice, answer: Answer) -> tuple[str, str]:
    found = [answer.broken_below(part) for part in choice.parts]
    known = [one for one in found if one is not None]
    if not known:
        return "none", "the smallest number holds"
    words = ", ".join(dict.fromkeys("requests lost" if slo == "lost" else slo.upper() for _, _, slo in known))
    about = ", ".join(f"{name or 'all'} with {replicas}" for replicas, name, _ in known)
    return words, about


def _frontier() -> Markup:
    return section(
        "frontier",
        "What was flown",
        tag(
            "div",
            tag("figure", tag("figcaption", "Attainment against cost"), chart("frontier-cost", "attainment by cost")),
            tag(
                "figure",
                tag("figcaption", "Use of a GPU against speed for a user"),
                chart("frontier-speed", "tokens per second per GPU by tokens per second per user"),
            ),
            class_="halves",
        ),
        about="Each point is a cluster that was flown: ★ the answer, ● meets every SLO, × does not. ◇ is what a "
        "perfect system would cost, the lower bound of its option. The dotted line is the attainment asked for. A "
        "flight that was certain to miss it was cut short; its point shows what had been flown.",
    )


def _candidates(answer: Answer, rows: list[dict[str, Any]]) -> Markup:
    unit = "GPUs" if answer.minimise == "gpus" else "$/h"
    has_pools = len({row["pool"] for row in rows}) > 1
    head = ("option", "", "replicas", unit, "good", "tokens/s/GPU", "tokens/s/user", "a perfect system")
    lines = [
        (
            joined(
                (
                    f"{row['pool']}: " if has_pools else "",
                    row["option"] or "as the scenario has it",
                    tag("strong", " ★") if row["is_best"] else "",
                )
            ),
            joined((mark("pass" if row["finding"] == "meets" else "fail"), _how(row))),
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


def _how(row: dict[str, Any]) -> str:
    if row["is_cut"]:
        return " cut short"
    return " close" if row["is_close"] else ""


def _seeds(repeats: Repeats) -> Markup:
    lines = [(one.loaded.scenario.seed, in_short(one)) for one in repeats.answers]
    return section("seeds", "Under other seeds", table(("seed", "answer"), lines, numeric_from=2))


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
        "perfect": row["perfect_price"],
        "share": min(row["attainment"].values(), default=1.0),
        "per_gpu": row.get("output_tokens_per_second", 0.0) / row["gpus"],
        "per_user": row.get("tokens_per_second_per_user", 0.0),
        "meets": row["finding"] == "meets",
        "best": row["is_best"],
    }
