"""The sections of a run's page that are words and tables; what is drawn is in `charts` and `page.js`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sim.experiment.comparison import Comparison
from sim.experiment.report.markup import Markup, chart, joined, mark, section, table, tag
from sim.experiment.report.tables import LATENCY_NAMES, NOTHING, duration, figure, money, number, share
from sim.experiment.verdicts import ALL

OUTCOMES = {"pass": "Passed", "fail": "Failed", "invalid": "Invalid"}
RUNGS = {"sim": "simulated time", "local": "processes on loopback", "kind": "pods on a cluster"}


def header(summary: Mapping[str, Any]) -> Markup:
    """Say what was flown, and how it went."""
    outcome = summary["outcome"]
    window = summary["window"]
    length = duration(window["end_seconds"] - window["start_seconds"])
    facts = (
        ("rung", f"{summary['rung']}, {RUNGS[summary['rung']]}" if summary["rung"] in RUNGS else summary["rung"]),
        ("measured", f"{length} after {duration(window['start_seconds'])} of warm-up"),
        ("requests", f"{summary['workload']['num_requests_in_window']:,}"),
        ("seed", summary["seed"]),
        ("workload", tag("code", summary["workload"]["hash"][:12])),
    )
    badge = tag("p", mark(outcome), " ", OUTCOMES[outcome], class_=f"outcome {outcome}")
    pairs = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts]
    about = tag("p", summary["about"], class_="lead") if summary["about"] else ""
    return tag("header", badge, tag("h1", summary["scenario"]), about, tag("dl", *pairs, class_="facts"))


def verdicts(summary: Mapping[str, Any]) -> Markup:
    """Give a card a verdict."""
    if not summary["verdicts"]:
        nothing = tag(
            "p", "The scenario expects nothing and sets no SLO, so there is nothing to judge.", class_="about"
        )
        return section("verdicts", "Verdicts", nothing)
    cards = [_card(verdict) for verdict in summary["verdicts"]]
    return section("verdicts", "Verdicts", tag("div", *cards, class_="cards"))


def _card(verdict: Mapping[str, Any]) -> Markup:
    outcome, measure = verdict["outcome"], verdict["measure"]
    words = {"pass": "holds", "fail": "does not hold", "invalid": "not judged"}[outcome]
    value = figure(measure, verdict["value"])
    bounds = ""
    if verdict["interval"]:
        low, high = (figure(measure, bound) for bound in verdict["interval"])
        bounds = tag("p", f"95 % interval {low} to {high}", class_="small")
    notes = [verdict["about"]] if verdict["about"] else []
    if not verdict["decides"]:
        notes.append("does not decide the exit code")
    return tag(
        "article",
        tag("p", mark(outcome), " ", words, class_="state"),
        tag("p", value, class_="figure"),
        tag("p", tag("code", verdict["text"])),
        bounds,
        tag("p", "; ".join(notes), class_="small") if notes else "",
        class_=f"card {outcome}",
    )


def key_figures(summary: Mapping[str, Any]) -> Markup:
    """Give the figures that most readers came for."""
    everything, system = summary["classes"][ALL], summary["system"]
    latency = everything["latency_seconds"]

    def estimate(name: str, percentile: str) -> str:
        found = latency[name]["percentiles"].get(percentile)
        return duration(found["value"]) if found else NOTHING

    middle, tail = _shown_percentiles(latency["ttft"]["percentiles"])
    tiles = [
        ("SLO attainment", share(everything["slo_attainment"]), f"{number(everything['goodput'])} good requests/s"),
        (f"TTFT {tail}", estimate("ttft", tail), f"{middle} {estimate('ttft', middle)}"),
        (f"TPOT {tail}", estimate("tpot", tail), f"{middle} {estimate('tpot', middle)}"),
        (f"E2E {tail}", estimate("e2e", tail), f"{middle} {estimate('e2e', middle)}"),
        (
            "Completed",
            f"{number(everything['throughput'])}/s",
            f"{number(everything['output_tokens_per_second'])} tokens/s",
        ),
        ("Errors", share(everything["error_rate"]), f"{share(everything['refused_rate'])} refused"),
        (
            "In flight",
            number(system["mean_concurrency"]),
            f"{share(everything['cached_token_share'])} of prompt tokens cached",
        ),
    ]
    if system["cost_per_million_output_tokens"] is not None:
        per_hour = f"per million output tokens; {money(system['cost_per_hour'])} an hour"
        tiles.append(("Cost", money(system["cost_per_million_output_tokens"]), per_hour))
    made = [
        tag("div", tag("dt", name), tag("dd", value), tag("dd", below, class_="small")) for name, value, below in tiles
    ]
    return section("figures", "Key figures", tag("dl", *made, class_="tiles"))


def _shown_percentiles(percentiles: Mapping[str, Any]) -> tuple[str, str]:
    names = list(percentiles)
    return names[0], "p95" if "p95" in percentiles else names[-1]


def validity(summary: Mapping[str, Any]) -> Markup:
    """Say whether the figures may be believed, and what to know beside them."""
    found = summary["validity"]
    outcome = "pass" if found["is_valid"] else "invalid"
    verdict = "The run is valid." if found["is_valid"] else "The run is invalid, so no figures are given."
    lag = f"{duration(found['send_lag_p99_seconds'])} (limit {duration(found['send_lag_limit_seconds'])})"
    checks = [("Send lag at p99", lag), ("Requests sent in the window", f"{share(found['achieved'])} (at least 98 %)")]
    little = (summary["system"] or {}).get("littles_law_ratio")
    if little is not None:
        checks.append(("Little's law, L / (λ·W)", f"{number(little)} (1 in a steady state)"))
    notes = [tag("li", finding["text"]) for finding in found["findings"] if finding["kind"] != "left_out"]
    return section(
        "validity",
        "Validity",
        tag("p", mark(outcome), " ", verdict, class_=f"state {outcome}"),
        tag("ul", *notes, class_="notes") if notes else "",
        tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in checks), class_="facts"),
    )


def percentiles(summary: Mapping[str, Any]) -> Markup:
    """Give every percentile with its interval."""
    classes = summary["classes"]
    names = list(classes[ALL]["latency_seconds"]["ttft"]["percentiles"])
    rows = list(_percentile_rows(summary, names))
    note = tag(
        "p",
        "Below each percentile its 95 % interval, which assumes nothing about the distribution. ",
        "“Too few”: the sample does not support the percentile. TTFT and E2E count from the scheduled time, ",
        "and from sent where that differs. ",
        "Gaps within an answer are not independent, so ITL has no interval.",
        class_="about",
    )
    return joined(
        (tag("h3", "Percentiles"), note, table(("class", "latency", "n", *names, "max"), rows, numeric_from=2))
    )


def _percentile_rows(summary: Mapping[str, Any], names: list[str]) -> Iterator[tuple[object, ...]]:
    for group, found in summary["classes"].items():
        if group == ALL and len(summary["classes"]) == 2:
            continue
        latencies = found["latency_seconds"]
        for latency, estimates in latencies.items():
            # a sender that is never late makes the two views one
            if estimates != latencies.get(latency.removesuffix("_from_sent")) or latency in ("ttft", "tpot", "e2e"):
                yield group, LATENCY_NAMES[latency], *_estimates(estimates, names)
    yield ALL, LATENCY_NAMES["itl"], *_estimates(summary["inter_token_latency"], names)


def _estimates(latency: Mapping[str, Any], names: list[str]) -> Iterator[object]:
    yield f"{latency['num_values']:,}"
    for name in names:
        found = latency["percentiles"][name]
        if found is None:
            yield tag("span", "too few", class_="small")
        elif found["low"] is None:
            yield duration(found["value"])
        else:
            bounds = f"{duration(found['low'])} – {duration(found['high'])}"
            yield joined((duration(found["value"]), tag("span", bounds, class_="bounds")))
    yield duration(latency["max"])


def groups(summary: Mapping[str, Any]) -> Markup:
    """Give rates and shares by class and tenant."""
    head = (
        "group",
        "requests",
        "SLO attainment",
        "goodput",
        "completed",
        "output tokens",
        "errors",
        "refused",
        "cached",
    )
    rows = []
    named = {**summary["classes"], **{f"tenant {name}": group for name, group in (summary["tenants"] or {}).items()}}
    for name, group in named.items():
        if name == ALL and len(named) == 2:
            continue
        rates = (f"{number(group[measure])}/s" for measure in ("goodput", "throughput", "output_tokens_per_second"))
        shares = (share(group[measure]) for measure in ("error_rate", "refused_rate", "cached_token_share"))
        rows.append((name, f"{group['num_requests']:,}", share(group["slo_attainment"]), *rates, *shares))
    return joined((tag("h3", "Classes and tenants"), table(head, rows)))


def attainment() -> Markup:
    """Place the charts of SLO attainment."""
    about = "Good requests among all that were scheduled; refused, failed and timed-out ones are not good."
    over_time = tag("figure", tag("figcaption", "Over time"), chart("attainment-time", "SLO attainment over time"))
    against = tag(
        "figure", tag("figcaption", "Against the offered rate"), chart("attainment-rate", "attainment by rate")
    )
    return section("attainment", "SLO attainment", tag("div", over_time, against, class_="pair"), about=about)


def latency(summary: Mapping[str, Any]) -> Markup:
    """Place the distributions, with the table that says them in figures."""
    figures = [
        tag("figure", tag("figcaption", caption), chart(f"latency-{name}", f"distribution of {name}"))
        for name, caption in (("ttft", "TTFT, from scheduled"), ("tpot", "TPOT"), ("e2e", "E2E, from scheduled"))
    ]
    about = "The share of requests that were at least as fast; the dashed line is the SLO."
    parts = (tag("div", *figures, class_="triple"), percentiles(summary), groups(summary))
    return section("latency", "Latency", *parts, about=about)


def timeline(summary: Mapping[str, Any]) -> Markup:
    """Place the timeline, with the events in words."""
    about = "Everything over one clock; faults are shaded, warm-up is grey."
    events = ", ".join(f"{count} × {kind.replace('_', ' ')}" for kind, count in summary["events"].items())
    said = tag("p", f"Events: {events}.", class_="small") if events else ""
    return section(
        "timeline", "Timeline", chart("timeline-chart", "timeline of the run", class_="tall"), said, about=about
    )


def replicas(heat: Mapping[str, Any]) -> Markup:
    """Place the heat map; nothing where the rung sampled no replica."""
    if not heat["replicas"]:
        return Markup("")
    names = {"running": "Running", "queue_depth": "Queue depth", "kv_usage": "KV cache usage"}
    buttons = [
        tag("button", names[measure], type="button", data_measure=measure, aria_pressed="false")
        for measure in heat["measures"]
    ]
    left_out = heat["num_left_out"]
    note = tag("p", f"{left_out} more replicas are not drawn.", class_="small") if left_out else ""
    return section(
        "replicas",
        "Replicas",
        tag("div", *buttons, class_="choices", role="group", aria_label="measure"),
        chart("heat", "load of each replica over time"),
        note,
        about="One row a replica; blank where it was not there or not ready.",
    )


def cost(summary: Mapping[str, Any], facts: Mapping[str, Any]) -> Markup:
    """Give the cost, where the price of the hardware is known."""
    system = summary["system"]
    if system["cost_per_hour"] is None:
        text = "The hardware of this run has no price, so there is no cost to give."
        return section("cost", "Cost", tag("p", text, class_="about"))
    rows = [
        ("per hour", money(system["cost_per_hour"])),
        ("per million output tokens", money(system["cost_per_million_output_tokens"])),
        ("per thousand good requests", money(system["cost_per_thousand_good_requests"])),
    ]
    rows += [
        (f"replica-hours of {name}", number(used / 3600))
        for name, used in sorted((facts.get("replica_seconds") or {}).items())
    ]
    return section("cost", "Cost", table(("", ""), rows))


def account(summary: Mapping[str, Any]) -> Markup:
    """Account for the workload: rows read = emitted + dropped."""
    workload = summary["workload"]
    rows = [
        ("requests in the measured window", f"{workload['num_requests_in_window']:,}"),
        ("requests emitted", f"{workload['num_requests']:,}"),
    ]
    rows += [(f"dropped: {reason}", f"{count:,}") for reason, count in sorted(workload["dropped"].items())]
    if workload["rows_read"]:
        rows.append(("rows read", f"{workload['rows_read']:,}"))
    for name, count in workload.get("client_retries", {}).items():
        rows.append((f"clients: {name.replace('_', ' ')}", f"{count:,}"))
    notes = [tag("li", note) for note in workload["notes"]]
    return section(
        "workload",
        "Workload",
        table(("", ""), rows),
        tag("ul", *notes, class_="notes") if notes else "",
        tag("p", "Content hash ", tag("code", workload["hash"], class_="hash"), class_="small"),
    )


def decisions(summary: Mapping[str, Any]) -> Markup:
    """Count the router's decisions, and the requests that got lost, by reason."""
    parts = []
    if summary["decisions"]:
        rows = sorted(summary["decisions"].items(), key=lambda item: (-item[1], item[0]))
        parts.append(table(("reason", "decisions"), [(reason, f"{count:,}") for reason, count in rows]))
    if summary["refusals_and_failures"]:
        rows = sorted(summary["refusals_and_failures"].items(), key=lambda item: (-item[1], item[0]))
        parts.append(tag("h3", "Requests that did not succeed"))
        parts.append(table(("outcome and reason", "requests"), [(reason, f"{count:,}") for reason, count in rows]))
    return section("decisions", "Decisions by reason", *parts) if parts else Markup("")


def left_out(summary: Mapping[str, Any]) -> Markup:
    """Say what the scenario asks and the rung could not do."""
    if not summary["left_out"]:
        return Markup("")
    sentences = [tag("li", sentence) for sentence in summary["left_out"]]
    return section("left-out", f"Left out on {summary['rung']}", tag("ul", *sentences, class_="notes"))


def prediction(comparison: Comparison) -> Markup:
    """Hold the prediction against the measurement."""
    agreement = comparison.agreement
    if agreement is None:
        return Markup("")
    rows = [
        (
            LATENCY_NAMES[row.measure],
            row.at,
            duration(row.predicted),
            duration(row.measured),
            NOTHING if row.error is None else f"{row.error:+.1%}",
        )
        for row in agreement.rows
    ]
    outcome = "pass" if agreement.agrees else "unclear"
    return section(
        "prediction",
        "Predicted against measured",
        tag("p", mark(outcome), " ", agreement.text, class_=f"state {outcome}"),
        table(
            ("latency", "at", f"{agreement.predicted_rung}", f"{agreement.measured_rung}", "error"),
            rows,
            numeric_from=2,
        ),
        tag("figure", tag("figcaption", "Error per quantile"), chart("errors", "relative error of each quantile")),
        tag("ul", *(tag("li", reason) for reason in agreement.reasons), class_="notes") if agreement.reasons else "",
    )


def scenario(yaml: str) -> Markup:
    """Show the scenario as it was flown."""
    summary = tag("summary", "The scenario as flown")
    return section("scenario", "Scenario", tag("details", summary, tag("pre", tag("code", yaml), tabindex="0")))


def definitions() -> Markup:
    """Say what the words mean; at the end of every page."""
    rows = (
        ("TTFT", "first non-empty token − scheduled; “from sent”: − sent"),
        ("TPOT", "(last token − first token) / (output tokens − tokens in the first chunk), one number a request"),
        ("ITL", "each gap between successive chunks, pooled over the whole flight"),
        ("E2E", "ended − scheduled; “from sent”: − sent"),
        ("goodput", "requests that succeeded and met every SLO of their class, per second"),
        ("SLO attainment", "good / all requests scheduled in the window"),
        ("send lag", "sent − scheduled: how late the load generator was"),
    )
    words = [tag("div", tag("dt", name), tag("dd", meaning)) for name, meaning in rows]
    listed = tag("details", tag("summary", "What the measures mean"), tag("dl", *words, class_="words"))
    return tag(
        "footer",
        listed,
        tag("p", "Made by Windtunnel. Latencies are those of requests that succeeded.", class_="small"),
    )
