"""Clients that send again, against a real server: how often, how long after, and what is told of it."""

import json
import urllib.request

import pytest

from e2e.replay import fill, replay
from sim.experiment.record import RunRecord
from sim.experiment.schema import ClientRetry
from sim.experiment.workload import Workload, WorkloadRequest

BACKOFF = 0.15
RULES = {"default": ClientRetry(max_sends=3, backoff=BACKOFF, multiplier=2.0)}
SENDS = {
    "steady": ("ok", 1),
    "limited": ("refused", 3),
    "broken": ("failed", 3),
    "hangs_up": ("failed", 3),
    "dribble": ("timed_out", 3),
    "cut_short": ("failed", 1),
}
"""How a request to each model of the server ends, and how often it is sent: not again once a token has come."""


def asked_of(models, **more) -> Workload:
    requests = (
        WorkloadRequest(index, 0.02 * index, 40, 10, name, deadline_seconds=0.3 if name == "dribble" else None, **more)
        for index, name in enumerate(models)
    )
    return Workload(tuple(requests), 1.0, "0123456789abcdef")


@pytest.fixture(scope="module")
def flown(sse_server):
    asked = asked_of(SENDS, session="persistent")
    return asked, replay(asked, sse_server, retries=RULES)


def test_a_request_that_brought_no_token_is_sent_again_and_no_other(flown):
    asked, result = flown
    found = {request.model: (row.status, row.sends) for request, row in zip(asked.requests, result.rows, strict=True)}
    assert found == SENDS


def test_the_server_got_every_send(flown, sse_server):
    with urllib.request.urlopen(f"{sse_server}/seen", timeout=10) as answer:
        seen = [entry for entry in json.load(answer) if entry["headers"].get("x-windtunnel-session") == "persistent"]
    for model, (_, sends) in SENDS.items():
        assert sum(entry["body"]["model"] == model for entry in seen) == sends


def test_backoffs_grow_and_first_sends_are_on_time(flown):
    """Open loop: nobody waits for those that are sent again."""
    asked, result = flown
    for request, row in zip(asked.requests, result.rows, strict=True):
        assert row.ended is not None
        assert 0 <= row.sent - request.scheduled < 0.2
        if row.sends == 3:
            assert row.ended - row.sent >= BACKOFF + 2 * BACKOFF


def test_what_clients_did_is_among_the_facts(flown):
    asked, result = flown
    record = RunRecord("a-name", "", "url", 1, asked.content_hash, 0.0, asked.duration_seconds)
    fill(record, result)
    assert record.facts["client_retries"] == {"resends": 8, "requests_sent_again": 4, "given_up": 4}
    assert record.requests["sends"] == [sends for _, sends in SENDS.values()]


def test_a_class_without_a_rule_sends_once(sse_server):
    result = replay(asked_of(["limited"], traffic_class="meek"), sse_server, retries=RULES)
    assert [row.sends for row in result.rows] == [1]


def test_who_waits_to_send_again_when_the_flight_ends_is_cancelled(sse_server):
    patient = {"default": ClientRetry(max_sends=3, backoff=60.0)}
    result = replay(asked_of(["limited"]), sse_server, retries=patient, overtime_seconds=0.5)
    assert [(row.status, row.reason, row.sends) for row in result.rows] == [("cancelled", "flight over", 1)]


def test_who_is_told_when_to_come_waits_that_long_if_the_rule_says_so(sse_server):
    rules = {"default": ClientRetry(max_sends=2, heeds_retry_after=True), "hasty": ClientRetry(max_sends=2)}
    models = ("come_later", "limited")
    for traffic_class, waits in (("default", [1.0, 0.0]), ("hasty", [0.0, 0.0])):
        result = replay(asked_of(models, traffic_class=traffic_class), sse_server, retries=rules)
        assert [row.sends for row in result.rows] == [2, 2]
        for row, wait in zip(result.rows, waits, strict=True):
            assert wait <= row.ended - row.sent < wait + 0.5
