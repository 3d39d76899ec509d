"""The sender against a real server: what it measures is what the server did, and every request has exactly one row."""

import json
import statistics
import time
import urllib.request
from math import isnan

import pytest

from e2e.replay import ReplayError, fill, replay
from e2e.replay.result import tokens_by_chunk
from e2e.replay.rows import Row
from sim.experiment.record import REQUEST_COLUMNS, RunRecord
from sim.experiment.workload import Workload, WorkloadRequest

PREFILL_SECONDS, GAP_SECONDS = 0.08, 0.02
"""As the server of the tests has them."""

ENDINGS = {
    "steady": ("ok", "", 200),
    "instant": ("ok", "", 200),
    "split": ("ok", "", 200),
    "bundled": ("ok", "", 200),
    "error_event": ("failed", "the back end died", 200),
    "cut_short": ("failed", "ended without [DONE]", 200),
    "reset": ("failed", "connection closed mid-stream", 200),
    "hangs_up": ("failed", "connection closed", 0),
    "closes_mid_chunk": ("failed", "connection closed mid-stream", 200),
    "stall": ("failed", "stalled", 200),
    "mute": ("failed", "no answer in time", 0),
    "dribble": ("timed_out", "no first token in time", 200),
    "no_token": ("failed", "no token came", 200),
    "garbage": ("failed", "malformed event", 200),
    "limited": ("refused", "slow down", 429),
    "full": ("refused", "queue full", 503),
    "broken": ("failed", "<html>oops</html>", 500),
    "not_http": ("failed", "connection closed", 0),
}
"""How a request to each of its models ends: status, reason, HTTP status."""


def workload(models, *, every=0.03, repeat=1, **more) -> Workload:
    names = [name for name in models for _ in range(repeat)]
    requests = (
        WorkloadRequest(index, index * every, 40, 10, name, deadline_seconds=0.4 if name == "dribble" else None, **more)
        for index, name in enumerate(names)
    )
    return Workload(tuple(requests), max(0.1, len(names) * every), "0123456789abcdef")


@pytest.fixture(scope="module")
def flown(sse_server):
    """One flight to every model of the server, twice each, by two senders."""
    asked = workload(ENDINGS, repeat=2)
    return asked, replay(asked, sse_server, stall_seconds=1.0, num_senders=2)


def rows_of(flown, model: str) -> list[Row]:
    asked, result = flown
    return [row for request, row in zip(asked.requests, result.rows, strict=True) if request.model == model]


def test_every_request_has_exactly_one_row(flown):
    asked, result = flown
    assert [row.index for row in result.rows] == [request.index for request in asked.requests]


@pytest.mark.parametrize("model", ENDINGS)
def test_an_answer_ends_as_the_server_ended_it(flown, model):
    assert [(row.status, row.reason, row.http_status) for row in rows_of(flown, model)] == [ENDINGS[model]] * 2


def test_instants_are_in_causal_order(flown):
    asked, result = flown
    for request, row in zip(asked.requests, result.rows, strict=True):
        assert row.ended is not None
        instants = [request.scheduled, row.sent, row.first_token, row.last_token, row.ended]
        known = [instant for instant in instants if instant is not None]
        assert known == sorted(known)


@pytest.mark.parametrize("model", ["steady", "split"])
def test_the_first_token_and_the_gaps_are_those_of_the_server(flown, model):
    for row in rows_of(flown, model):
        assert row.first_token is not None
        assert row.last_token is not None
        # a loaded machine is late, never early
        assert PREFILL_SECONDS * 0.95 <= row.first_token - row.sent < PREFILL_SECONDS * 4
        assert statistics.median(row.gap_ticks) * 1e-5 >= GAP_SECONDS * 0.95
        assert abs(sum(row.gap_ticks) * 1e-5 - (row.last_token - row.first_token)) < 1e-3
        assert len(row.gap_ticks) == 9


def test_chunks_that_come_together_have_no_gap_between_them(flown):
    for row in rows_of(flown, "instant"):
        assert len(row.chunk_sizes) == 10
        assert sum(row.gap_ticks) * 1e-5 < 0.02


def test_tokens_of_a_chunk_are_counted_by_usage_and_text(flown):
    for row in rows_of(flown, "bundled"):
        assert tokens_by_chunk(row) == [4, 2, 2, 2]


def test_what_the_server_tells_of_itself_is_kept(flown):
    row = rows_of(flown, "steady")[0]
    assert (row.usage, row.endpoint, row.attempts) == ((40, 10, 16), "vllm-1", 2)


def test_the_record_has_every_column_and_the_pooled_gaps(flown):
    asked, result = flown
    record = RunRecord("a-name", "", "url", 1, asked.content_hash, 0.0, asked.duration_seconds)
    fill(record, result)
    count = len(asked.requests)
    assert {name: len(values) for name, values in record.requests.items()} == dict.fromkeys(REQUEST_COLUMNS, count)
    for name, kind in REQUEST_COLUMNS.items():
        assert {type(value) for value in record.requests[name]} == {kind}
    assert sum(number for _, _, number in record.gaps) == sum(len(row.gap_ticks) for row in result.rows)
    columns = record.requests
    for first, chunks, output, status in zip(
        columns["first_token"], columns["chunks"], columns["output_tokens"], columns["status"], strict=True
    ):
        assert isnan(first) == (chunks == 0)
        assert output >= chunks
        assert not isnan(first) or status != "ok"


def test_headers_say_who_asks_and_what_for(sse_server):
    asked = workload(["instant"], tenant="red", traffic_class="chat", session="s-1", priority=3)
    result = replay(asked, f"{sse_server}/v1", api_keys={"red": "secret-red"})
    with urllib.request.urlopen(f"{sse_server}/seen", timeout=10) as answer:
        seen = [entry for entry in json.load(answer) if entry["headers"].get("x-windtunnel-session") == "s-1"]
    assert [row.status for row in result.rows] == ["ok"]
    assert len(seen) == 1
    headers = seen[0]["headers"]
    assert seen[0]["path"] == "/v1/chat/completions"
    assert headers["authorization"] == "Bearer secret-red"
    assert (headers["x-windtunnel-class"], headers["x-windtunnel-priority"]) == ("chat", "3")
    assert headers["x-request-id"].endswith("-0")


def test_requests_leave_on_time_though_no_answer_comes(sse_server):
    """Open loop: fifty requests to a server that never answers are all sent when they were due."""
    asked = workload(["mute"] * 50, every=0.01)
    result = replay(asked, sse_server, stall_seconds=0.6)
    late = [row.sent - request.scheduled for request, row in zip(asked.requests, result.rows, strict=True)]
    assert min(late) >= 0
    # closed loop would take half a minute; this is twenty times what a quiet machine shows
    assert statistics.median(late) < 0.02


def test_an_encrypted_endpoint_is_measured_as_a_plain_one(tls_server):
    url, _ = tls_server
    asked = workload(["steady", "split", "limited", "stall"])
    trusting = replay(asked, url, stall_seconds=1.0, verify_tls=False)
    assert [row.status for row in trusting.rows] == ["ok", "ok", "refused", "failed"]
    assert [len(row.chunk_sizes) for row in trusting.rows[:2]] == [10, 10]
    doubting = replay(asked, url, stall_seconds=1.0)
    assert {(row.status, row.http_status) for row in doubting.rows} == {("failed", 0)}
    assert {row.reason for row in doubting.rows} == {"certificate not trusted"}


def test_what_is_open_after_overtime_is_cancelled(sse_server):
    began = time.monotonic()
    result = replay(workload(["stall", "steady"]), sse_server, overtime_seconds=1.0)
    assert [(row.status, row.reason) for row in result.rows] == [("cancelled", "flight over"), ("ok", "")]
    assert time.monotonic() - began < 20


def test_a_server_that_has_gone_fails_every_request():
    result = replay(workload(["steady"] * 3), "http://127.0.0.1:9")
    assert [(row.status, row.reason) for row in result.rows] == [("failed", "connection refused")] * 3


def test_a_workload_without_requests_lands_at_once(sse_server):
    assert replay(Workload((), 0.1, "0123456789"), sse_server).rows == ()


def test_a_sender_that_breaks_is_told_with_its_last_words(sse_server, monkeypatch):
    monkeypatch.setattr("e2e.replay.launch.PILOT", "e2e.replay.no_such_module")
    with pytest.raises(ReplayError, match="No module named"):
        replay(workload(["steady"]), sse_server)


def test_progress_and_the_zero_are_told(sse_server):
    shares: list[float] = []
    zeros: list[float] = []
    result = replay(workload(["steady"] * 30), sse_server, progress=shares.append, on_start=zeros.append)
    assert zeros == [result.zero]
    assert shares == sorted(shares)
    assert 0 < max(shares) <= 1
