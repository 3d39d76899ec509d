"""How `windtunnel plan` tells its answer: on the terminal, and as JSON."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.capacity.answer import Answer
    from sim.capacity.repeats import Repeats


def tell(answer: Answer, repeats: Repeats | None, console: Any, seconds: float) -> None:
    """Print the answer, what stands behind it, and every cluster that was flown."""
    say = partial(console.print, highlight=False, markup=False)
    say(answer.sentence, style="bold")
    if answer.choice is not None:
        say(answer.binding, answer.headroom_sentence)
        say(answer.bound, answer.price_note, answer.ties)
        if answer.choice.is_close:
            say("It is a close call: the confidence bounds did not part from the target.")
    if repeats is not None:
        say(repeats.sentence)
    if answer.flown:
        console.print(_table(answer))
    for skipped in answer.skipped:
        say(f"not flown: {skipped.option.label or 'as it is'}: {skipped.reason}")
    cut = " cut: it failed for certain, and the flight ended there." if any(r["is_cut"] for r in answer.rows()) else ""
    say(
        f"{answer.num_flights} flights in {seconds:.1f} s. n: replicas; at least: what a perfect system would need."
        f"{cut}",
    )


def as_json(answer: Answer, repeats: Repeats | None) -> dict[str, Any]:
    """Give the answer as JSON values."""
    from sim.capacity.repeats import in_short

    chosen = answer.choice.candidates if answer.choice else ()
    parts = [
        {"pool": one.option.pool, "settings": dict(one.option.settings), "replicas": one.replicas, "price": one.price}
        for one in chosen
    ]
    return {
        "sentence": answer.sentence,
        "binding": answer.binding or None,
        "headroom": _headroom(answer),
        "best": parts[0] if parts else None,
        "pools": parts,
        "price": answer.choice.price if answer.choice else None,
        "gpus": answer.choice.gpus if answer.choice else None,
        "perfect_price": answer.choice.perfect_price if answer.choice else None,
        "minimise": answer.minimise,
        "prices": {"date": answer.prices.date, "source": answer.prices.source},
        "spare": answer.spare.replicas,
        "spare_nodes": answer.spare.nodes,
        "repeats": None
        if repeats is None
        else {
            "sentence": repeats.sentence,
            "answers": [
                {"seed": one.loaded.scenario.seed, "answer": in_short(one), "price": one.choice and one.choice.price}
                for one in repeats.answers
            ],
        },
        "candidates": answer.rows(),
        "not_flown": [{"option": s.option.label, "reason": s.reason} for s in answer.skipped],
    }


def _table(answer: Answer) -> Any:
    from rich.table import Table
    from rich.text import Text

    unit = "GPUs" if answer.minimise == "gpus" else "$/h"
    rows = answer.rows()
    has_pools = len({row["pool"] for row in rows}) > 1
    head = ("option", "n", "at least", unit, "good", "tok/s/GPU", "tok/s/user", "")
    table = Table(*(["pool"] if has_pools else []), *head, box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap = len(rows[0]["attainment"]) == 1
    for row in rows:
        shares = _shares(row["attainment"])
        option = row["option"] or "as it is"
        table.add_row(
            *([row["pool"]] if has_pools else []),
            Text(f"{option} ★", "bold") if row["is_best"] else Text(option),
            str(row["replicas"]),
            str(row["perfect_replicas"]),
            f"{row['price']:g}" if answer.minimise == "gpus" else f"{row['price']:.2f}",
            shares,
            f"{row.get('output_tokens_per_second', 0) / row['gpus']:,.0f}",
            f"{row.get('tokens_per_second_per_user', 0):.0f}",
            row["finding"] + (" (cut)" if row["is_cut"] else " (close)" if row["is_close"] else ""),
        )
    return table


def _shares(attainment: dict[str, float]) -> str:
    if len(attainment) == 1:
        return f"{next(iter(attainment.values())):.1%}"
    return ", ".join(f"{name} {share:.1%}" for name, share in attainment.items())


def _headroom(answer: Answer) -> dict[str, Any] | None:
    found = answer.headroom
    return None if found is None else {"factor": found.factor, "broken_at": found.broken_at, "breaks": found.breaks}
