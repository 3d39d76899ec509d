"""What is told of a decision: to a file all of them, to standard error those of who asks, in a header the same."""

from __future__ import annotations

import io
import json
from pathlib import Path

from reference.policy.pool import Dispatch, Fail, Refuse
from reference.policy.view import Decision, Rejected, RequestView
from reference.router.decision_log import DecisionLog, decision_header, entry


def request(name: str) -> RequestView:
    return RequestView(name, "llama", 0.0, 10)


DISPATCH = Dispatch(request("r-1"), Decision("a", "the fewest in flight", (("a", 1.0), ("b", 0.123456))), 2)
REFUSE = Refuse(request("r-2"), Rejected("the queue is full", 3.0))
FAIL = Fail(request("r-3"), "3 attempts failed", 3)


def test_a_file_gets_every_decision(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "decisions.jsonl")
    for action in (DISPATCH, REFUSE, FAIL):
        log(1.5, action)
    log.close()

    lines = [json.loads(line) for line in (tmp_path / "decisions.jsonl").read_text().splitlines()]

    assert lines == [json.loads(json.dumps(entry(1.5, action))) for action in (DISPATCH, REFUSE, FAIL)]
    assert lines[0]["scores"] == [["a", 1.0], ["b", 0.123456]]
    assert [line["reason"] for line in lines] == ["the fewest in flight", "the queue is full", "3 attempts failed"]


def test_without_a_file_only_who_asks_is_shown_and_only_while_it_lives() -> None:
    shown = io.BytesIO()
    log = DecisionLog(None, shown)
    log.ask("r-1")
    log(1.0, DISPATCH)
    log(1.0, REFUSE)
    log.forget("r-1")
    log(2.0, DISPATCH)

    assert [json.loads(line)["request"] for line in shown.getvalue().splitlines()] == ["r-1"]


def test_a_header_tells_reason_and_scores_on_one_line() -> None:
    assert decision_header(DISPATCH) == b"endpoint=a; attempt=2; reason=the fewest in flight; scores=a:1,b:0.1235"
    strange = Dispatch(request("r"), Decision("a", "two\r\nlines — and a dash"), 1)
    assert decision_header(strange) == b"endpoint=a; attempt=1; reason=two  lines ? and a dash"
