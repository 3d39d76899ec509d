"""Summary, verdicts and validity: what is believed, what is withheld, and what decides the exit code."""

import json
from types import SimpleNamespace
from xml.etree import ElementTree as xml

import pytest

from sim.experiment.junit import junit
from sim.experiment.summary import exit_code, summarise

LATE = {"scheduled": 5.0, "sent": 5.5, "first_token": 6.0, "last_token": 6.1, "ended": 6.1}


def kinds(summary: dict) -> list[str]:
    return [finding["kind"] for finding in summary["validity"]["findings"]]


def test_a_summary_is_json_and_the_same_for_the_same_record(made: SimpleNamespace) -> None:
    """I6."""
    record, scenario = made.record(made.random_rows(400, 1)), made.scenario("chat.ttft_p95 < 1s")

    first = json.dumps(summarise(record, scenario), allow_nan=False)
    record.diagnostics["wall_seconds"] = 3.0

    assert json.dumps(summarise(record, scenario), allow_nan=False) == first


def test_expectations_decide_and_an_slo_that_none_speaks_of_is_told(made: SimpleNamespace) -> None:
    record = made.record([*[{} for _ in range(50)], *[made.lost("refused") for _ in range(50)]])

    summary = summarise(record, made.scenario("all.error_rate < 0.01"))

    assert [(one["kind"], one["outcome"], one["decides"]) for one in summary["verdicts"]] == [
        ("expectation", "pass", True),
        ("slo", "fail", False),
    ]
    assert exit_code(summary) == 0


def test_without_expectations_the_slos_decide(made: SimpleNamespace) -> None:
    record = made.record([*[{} for _ in range(50)], *[made.lost("refused") for _ in range(50)]])

    summary = summarise(record, made.scenario())

    assert [(one["kind"], one["outcome"], one["decides"]) for one in summary["verdicts"]] == [("slo", "fail", True)]
    assert exit_code(summary) == 1


def test_an_expectation_of_what_could_not_be_measured_does_not_hold_and_says_why(made: SimpleNamespace) -> None:
    summary = summarise(made.record([{} for _ in range(100)]), made.scenario("chat.ttft_p99 < 10s"))

    assert summary["verdicts"][0]["outcome"] == "fail"
    assert summary["verdicts"][0]["about"] == "100 values are too few: p99 needs 368"
    assert "few_samples" in kinds(summary)


def test_a_threshold_inside_the_interval_is_called_close(made: SimpleNamespace) -> None:
    record = made.record([*[{} for _ in range(92)], *[made.lost("failed") for _ in range(8)]])

    [verdict] = summarise(record, made.scenario("chat.slo_attainment >= 0.9"))["verdicts"]

    assert verdict["outcome"] == "pass"
    assert verdict["about"].startswith("close")


def test_a_late_sender_makes_a_run_invalid_and_its_figures_are_not_given(made: SimpleNamespace) -> None:
    record = made.record([LATE | {"scheduled": float(at), "sent": at + 0.03} for at in range(60)])

    summary = summarise(record, made.scenario("all.error_rate < 0.01"))

    assert summary["outcome"] == "invalid"
    assert kinds(summary)[0] == "send_lag"
    assert (summary["classes"], summary["system"], summary["inter_token_latency"]) == (None, None, None)
    assert [one["outcome"] for one in summary["verdicts"]] == ["invalid", "invalid"]
    assert exit_code(summary) == 3


@pytest.mark.parametrize(("ttft", "is_valid"), [("500ms", False), ("1s", True)])
def test_the_lag_limit_is_a_twentieth_of_the_ttft_slo(made: SimpleNamespace, ttft: str, is_valid: bool) -> None:
    scenario = made.scenario(classes=({"name": "chat", "slo": {"ttft": ttft}},))
    record = made.record([{"scheduled": float(at), "sent": at + 0.03, "first_token": at + 0.1} for at in range(60)])

    assert summarise(record, scenario)["validity"]["is_valid"] is is_valid


def test_a_sender_that_could_not_keep_up_makes_a_run_invalid(made: SimpleNamespace) -> None:
    rows = [{} for _ in range(100)]
    for at in range(97, 100):
        rows[at] = made.lost("failed", "never sent") | {"sent": float("nan")}

    assert "achieved" in kinds(summarise(made.record(rows), made.scenario()))


def test_a_run_of_nothing_is_invalid(made: SimpleNamespace) -> None:
    assert kinds(summarise(made.record([]), made.scenario())) == ["empty"]


def test_a_first_request_that_found_its_prompt_cached_gives_a_warm_cache_away(made: SimpleNamespace) -> None:
    rows = made.random_rows(40, 2)
    assert "contaminated" not in kinds(summarise(made.record(rows), made.scenario()))
    rows[1] |= {"cached_tokens": 64}
    assert "contaminated" not in kinds(summarise(made.record(rows), made.scenario()))
    rows[0] |= {"cached_tokens": 64}
    assert "contaminated" in kinds(summarise(made.record(rows), made.scenario()))


def test_a_backlog_that_grows_through_the_window_is_told(made: SimpleNamespace) -> None:
    rows = [{"scheduled": float(at), "last_token": at * 2.0, "ended": at * 2.0 + 1} for at in range(100)]

    assert "backlog" in kinds(summarise(made.record(rows), made.scenario()))


def test_cost_follows_from_the_price_and_the_tokens(made: SimpleNamespace) -> None:
    record = made.record(
        [{"output_tokens": 100} for _ in range(36)], facts={"cost_per_hour": 3.6}, duration_seconds=36.0
    )

    system = summarise(record, made.scenario())["system"]

    assert system["cost_per_million_output_tokens"] == pytest.approx(1e6 * 0.001 / 100, rel=0.02)
    assert system["cost_per_thousand_good_requests"] == pytest.approx(1.0)


def test_junit_agrees_with_the_exit_code(made: SimpleNamespace) -> None:
    rows = [*[{} for _ in range(50)], *[made.lost("refused") for _ in range(50)]]
    for expect in ((), ("all.error_rate < 0.01",), ("all.refused_rate < 0.01",)):
        summary = summarise(made.record(rows), made.scenario(*expect))
        suites = xml.fromstring(xml.tostring(junit(summary)))
        suite = suites.find("testsuite")

        assert int(suite.get("failures")) == len(suite.findall("testcase/failure"))
        assert int(suite.get("skipped")) == len(suite.findall("testcase/skipped"))
        assert int(suite.get("tests")) == len(suite.findall("testcase")) == len(summary["verdicts"]) + 1
        assert (int(suite.get("failures")) > 0) == (exit_code(summary) != 0)
