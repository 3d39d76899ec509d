"""The end of a flight on a terminal: verdicts first, then figures, what to know about them, and where the files are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sim.experiment.comparison import Comparison
from sim.experiment.report.comparison_page import ORDER, headline
from sim.experiment.report.tables import (
    LATENCY_NAMES,
    MEASURE_NAMES,
    NOTHING,
    change,
    duration,
    figure,
    money,
    number,
    share,
)
from sim.experiment.verdicts import ALL

if TYPE_CHECKING:
    from rich.console import Console

MARKS = {
    "pass": ("✓", "green"),
    "fail": ("✗", "bold red"),
    "invalid": ("!", "bold yellow"),
    "better": ("▲ better", "green"),
    "worse": ("▼ worse", "bold red"),
    "same": ("= same", "dim"),
    "unclear": ("? unclear", "yellow"),
    "withheld": (NOTHING, "dim"),
    "shown": ("", "dim"),
}
_OUTCOMES = {"pass": "passed", "fail": "failed", "invalid": "invalid: no figures"}


def print_summary(summary: Mapping[str, Any], console: Console, directory: Path | None = None) -> None:
    """Print a summary; with `directory`, where the run's files are."""
    mark, style = MARKS[summary["outcome"]]
    heading = Text.assemble(
        (f"{mark} {summary['scenario']} ", style), f"on {summary['rung']}: ", (_OUTCOMES[summary["outcome"]], style)
    )
    console.print()
    console.print(heading)
    console.print(Padding(_verdicts(summary["verdicts"]), (0, 0, 0, 2)))
    if summary["classes"] is not None:
        console.print(_latencies(summary))
        console.print(_rates(summary["classes"] | (summary["tenants"] or {})))
        console.print(Padding(_system_line(summary), (0, 0, 0, 2)))
    _print_findings(summary["validity"]["findings"], console)
    if directory is not None:
        console.print(Text(f"  report  {directory / 'report.html'}", overflow="fold"))
        console.print(
            Text(f"  files   {directory}: summary.json, summary.csv, requests.csv, junit.xml", overflow="fold")
        )


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print what two runs say against each other; what got worse comes first."""
    a, b = comparison.names
    kind, sentence = headline(comparison)
    console.print()
    names = f"{b} against {a}" if _are_short(comparison.names) else f"B, {b}, against A, {a}"
    console.print(Text.assemble(f"{names}: ", (sentence, MARKS[kind][1])))
    pairs = f"paired by {comparison.num_pairs:,} requests" if comparison.is_paired else "not paired"
    console.print(
        f"  {pairs}; changes under {comparison.minimal_effect:.0%} do not count", style="dim", highlight=False
    )
    if comparison.agreement is not None:
        console.print(_agreement(comparison))
    elif comparison.rows:
        console.print(_differences(comparison))
    for note in comparison.notes:
        console.print(Padding(Text(note, style="yellow"), (0, 0, 0, 2)))


def _are_short(names: tuple[str, str]) -> bool:
    """Say whether two names fit over columns of figures."""
    return max(map(len, names)) <= 12


def _verdicts(verdicts: Iterable[Mapping[str, Any]]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    for verdict in verdicts:
        mark, style = MARKS[verdict["outcome"]]
        about = verdict["about"] or ("" if verdict["decides"] else "does not decide")
        value = figure(verdict["measure"], verdict["value"])
        table.add_row(Text(mark, style), verdict["text"], Text(value, "bold"), Text(about, "dim"))
    return table


def _latencies(summary: Mapping[str, Any]) -> Table:
    percentiles = list(summary["classes"][ALL]["latency_seconds"]["ttft"]["percentiles"])
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("class")
    table.add_column("latency")
    for percentile in percentiles:
        table.add_column(percentile, justify="right")
    table.add_column("SLO", justify="right")
    classes = summary["classes"]
    shown = [name for name in classes if name != ALL] if len(classes) == 2 else list(classes)
    for name in shown:
        for latency in ("ttft", "tpot", "e2e"):
            found = classes[name]["latency_seconds"][latency]["percentiles"]
            limit = (classes[name].get("slo") or {}).get(latency)
            table.add_row(
                name if latency == "ttft" else "",
                LATENCY_NAMES[latency],
                *(_estimate(found[percentile], limit) for percentile in percentiles),
                Text(duration(limit) if limit is not None else "", "dim"),
                end_section=latency == "e2e" and name == shown[-1],
            )
    gaps = summary["inter_token_latency"]["percentiles"]
    table.add_row("all", "ITL", *(_estimate(gaps[percentile], None) for percentile in percentiles), "")
    return table


def _estimate(estimate: Mapping[str, float] | None, limit: float | None) -> Text:
    if estimate is None:
        return Text("few", "dim")
    is_over = limit is not None and estimate["value"] > limit
    return Text(duration(estimate["value"]), "red" if is_over else "")


def _rates(groups: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("group")
    for column in ("requests", "in SLO", "goodput/s", "done/s", "tokens/s", "errors", "refused"):
        table.add_column(column, justify="right")
    for name, group in groups.items():
        if name == ALL and len(groups) == 2:
            continue
        table.add_row(
            name,
            f"{group['num_requests']:,}",
            share(group["slo_attainment"]),
            number(group["goodput"]),
            number(group["throughput"]),
            number(group["output_tokens_per_second"]),
            share(group["error_rate"]),
            share(group["refused_rate"]),
        )
    return table


def _system_line(summary: Mapping[str, Any]) -> Text:
    system = summary["system"]
    parts = [f"{number(system['mean_concurrency'])} requests in flight in the mean"]
    if cached := summary["classes"][ALL]["cached_token_share"]:
        parts.append(f"{share(cached)} of prompt tokens cached")
    if system["cost_per_million_output_tokens"] is not None:
        cost = money(system["cost_per_million_output_tokens"])
        parts.append(f"{money(system['cost_per_hour'])} an hour, {cost} per million output tokens")
    return Text(" · ".join(parts), "dim")


def _print_findings(findings: Iterable[Mapping[str, Any]], console: Console) -> None:
    for finding in findings:
        style = "bold yellow" if finding["invalidates"] else "yellow"
        sign = "invalid: " if finding["invalidates"] else "left out: " if finding["kind"] == "left_out" else "note: "
        console.print(Padding(Text(f"{sign}{finding['text']}", style), (0, 0, 0, 2)))


def _agreement(comparison: Comparison) -> Table:
    assert comparison.agreement is not None
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for column in ("latency", "at"):
        table.add_column(column)
    for column in ("predicted", "measured", "error"):
        table.add_column(column, justify="right")
    for row in comparison.agreement.rows:
        error = NOTHING if row.error is None else f"{row.error:+.1%}"
        is_apart = row.error is not None and abs(row.error) > comparison.agreement.tolerance
        name = LATENCY_NAMES[row.measure]
        table.add_row(
            name,
            row.at,
            duration(row.predicted),
            duration(row.measured),
            Text(error, "yellow" if is_apart else "green"),
        )
    return table


def _differences(comparison: Comparison) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    has_groups = len({row.group for row in comparison.rows}) > 1
    if has_groups:
        table.add_column("class")
    table.add_column("measure")
    for column in (*(comparison.names if _are_short(comparison.names) else "AB"), "change [99 %]"):
        table.add_column(column, justify="right", overflow="fold")
    table.add_column("")
    for row in sorted(comparison.rows, key=lambda row: ORDER[row.verdict]):
        if row.verdict == "withheld":
            continue
        mark, style = MARKS[row.verdict]
        name = f"{MEASURE_NAMES[row.measure]} {row.at}".strip()
        cells = (name, figure(row.measure, row.a), figure(row.measure, row.b), change(row), Text(mark, style))
        table.add_row(*((row.group, *cells) if has_groups else cells))
    return table
