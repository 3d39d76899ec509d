"""Retries, the breaker, a worker killed under load: what clients see of it is nothing, or a typed error."""

from __future__ import annotations

import json
import threading
import time

import pytest


@pytest.mark.parametrize(
    "fault", [{"fault": "error"}, {"fault": "reset", "tokens": 0}, {"fault": "error", "status": 503}]
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_failure_before_the_first_byte_is_tried_on_the_other_worker(stack, fault, stream) -> None:
    stack.inject("one", **fault, lasts=20)

    decisions = []
    for _ in range(4):
        answer = stack.ask(stream=stream)
        assert answer.status == 200
        decisions.append(answer.headers["x-windtunnel-decision"])

    assert all(decision.startswith("endpoint=two;") for decision in decisions)
    assert any("attempt=2" in decision for decision in decisions)


def test_a_failure_after_the_first_byte_is_not_tried_again(stack) -> None:
    before = stack.gauge("windtunnel_router_retries_total")
    for worker in ("one", "two"):
        stack.inject(worker, fault="die", tokens=1, lasts=20)

    assert json.loads(stack.ask(stream=True).events[-1])["error"]["code"] == "upstream_lost"
    assert stack.gauge("windtunnel_router_retries_total") == before


def test_the_last_endpoint_is_never_closed_off(stack) -> None:
    stack.inject("narrow", fault="error", lasts=20)
    assert [stack.ask(model="narrow").status for _ in range(8)] == [500] * 8

    stack.heal()

    assert stack.ask(model="narrow").status == 200


@pytest.mark.parametrize("status", [400, 404, 422, 429])
def test_what_is_not_the_workers_fault_opens_no_breaker(stack, status) -> None:
    for worker in ("one", "two"):
        stack.inject(worker, fault="error", status=status, lasts=20)
    for _ in range(8):
        assert stack.ask().status == status

    assert stack.gauge("windtunnel_router_endpoints", model="tiny", state="ejected") == 0


def test_one_request_that_fails_twice_opens_no_breaker(stack) -> None:
    for worker in ("one", "two"):
        stack.inject(worker, fault="error", lasts=20)
    assert stack.ask().status == 500

    assert stack.gauge("windtunnel_router_endpoints", model="tiny", state="ejected") == 0
    stack.heal()
    assert stack.ask().status == 200


def test_a_worker_killed_under_load_fails_nobody_new_and_is_back_soon(stack) -> None:
    killed_at = [float("inf")]
    found: list[tuple[float, str]] = []
    stop = threading.Event()

    def client(place: int) -> None:
        while not stop.is_set():
            began = time.monotonic()
            found.append((began, outcome_of(stack.ask(stream=place % 2 == 0, max_tokens=30))))

    clients = [threading.Thread(target=client, args=(place,)) for place in range(6)]
    for thread in clients:
        thread.start()
    time.sleep(0.7)
    killed_at[0] = time.monotonic()
    stack.crew.kill(stack.workers["one"])
    time.sleep(1.0)
    stack.crew.start(stack.workers["one"])
    stack.crew.wait_until_ready([stack.workers["one"]])
    ready_at = time.monotonic()
    while stack.gauge("windtunnel_router_endpoints", model="tiny", state="available") < 2:
        assert time.monotonic() - ready_at < 5, "it was not taken back"
        time.sleep(0.01)
    back_after = time.monotonic() - ready_at
    time.sleep(0.3)
    stop.set()
    for thread in clients:
        thread.join()

    in_flight = [outcome for began, outcome in found if began < killed_at[0]]
    new = [outcome for began, outcome in found if began >= killed_at[0]]
    assert {*in_flight} <= {"whole", "typed error"}
    assert {*new} == {"whole"}
    assert len(new) > 20
    # two health intervals of the router, and what a busy machine takes
    assert back_after < 2 * 0.25 + 0.5


def outcome_of(answer) -> str:
    """Say how an answer ended, as a client sees it."""
    if answer.status != 200:
        return f"status {answer.status}: {answer.body!r}"
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return "whole" if answer.body.endswith(b"}") else "cut off"
    if answer.events[-1] == "[DONE]":
        return "whole"
    return "typed error" if json.loads(answer.events[-1]).get("error", {}).get("code") == "upstream_lost" else "cut off"
