"""Pieces of HTML: every piece of text is escaped here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


class Markup(str):
    """HTML that is escaped already."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Escape anything that is not markup yet."""
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """Make an element; `class_` is the attribute class, and one that is None is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{joined(children)}</{name}>")


def joined(children: Iterable[object]) -> Markup:
    """Put pieces one after the other."""
    return Markup("".join(text(child) for child in children))


def section(identity: str, title: str, *children: object, about: str = "") -> Markup:
    """Make a section with its heading, and one sentence on how to read it."""
    lead = tag("p", about, class_="about") if about else ""
    return tag("section", tag("h2", title), lead, *children, id=identity)


def table(head: Sequence[object], rows: Iterable[Sequence[object]], *, numeric_from: int = 1) -> Markup:
    """Make a table that scrolls inside its own box; columns from `numeric_from` on are aligned right.

    One of two columns is kept narrow: a figure should stand near its name.
    """

    def kind(column: int) -> str | None:
        return "number" if column >= numeric_from else None

    heading = tag("tr", *(tag("th", cell, class_=kind(column), scope="col") for column, cell in enumerate(head)))
    body = [tag("tr", *(tag("td", cell, class_=kind(column)) for column, cell in enumerate(row))) for row in rows]
    inner = tag("table", tag("thead", heading), tag("tbody", *body))
    return tag(
        "div",
        inner,
        class_="scroll" if len(head) > 2 else "scroll narrow",
        tabindex="0",
        role="region",
        aria_label="table",
    )


def chart(identity: str, label: str, *, class_: str = "") -> Markup:
    """Make the place that a chart is drawn into."""
    return tag("div", id=identity, class_=f"chart {class_}".strip(), role="img", aria_label=label)


def mark(outcome: str) -> Markup:
    """Make the sign of an outcome: a form and a word, never a colour alone."""
    signs = {"pass": "✓", "fail": "✗", "invalid": "!", "better": "▲", "worse": "▼", "same": "=", "unclear": "?"}
    return tag("span", signs.get(outcome, "·"), class_=f"mark {outcome}", aria_hidden="true")
