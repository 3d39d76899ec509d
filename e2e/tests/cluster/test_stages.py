"""Stages: in order, each within its time, and whoever gives up says which one and what was seen last."""

from __future__ import annotations

import time

import pytest

from e2e.cluster.programs import StageFailed
from e2e.cluster.stages import Clock, Stage, run


def test_stages_run_in_order_and_say_what_they_did() -> None:
    said: list[str] = []

    done = run([Stage("one", 5, lambda _: "made one"), Stage("two", 5, lambda _: "made two")], said.append)

    assert [(one.name, one.told) for one in done] == [("one", "made one"), ("two", "made two")]
    assert said[0] == "[1/2] one (at most 5 s)"
    assert said[1].strip().startswith("made one")


def test_a_stage_that_fails_ends_the_run_with_its_name_and_what_was_seen_last() -> None:
    ran: list[str] = []

    def fails(clock: Clock) -> str:
        clock.seen = "pulling the fourth image"
        raise StageFailed("the registry does not answer")

    def never(_: Clock) -> str:
        ran.append("never")
        return ""

    with pytest.raises(
        StageFailed, match="stage images, after 0 s: the registry does not answer; last seen: pulling the fourth image"
    ):
        run([Stage("images", 5, fails), Stage("stack", 5, never)], lambda _: None)
    assert ran == []


def test_waiting_ends_at_the_deadline_with_what_was_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("e2e.cluster.stages.POLL_SECONDS", 0.01)
    looked = 0

    def missing() -> str:
        nonlocal looked
        looked += 1
        return f"{3} of 4 pods, look {looked}"

    began = time.monotonic()
    with pytest.raises(StageFailed, match=r"not done within its time; last seen: 3 of 4 pods, look \d+"):
        Clock(began + 0.1).until(missing)
    assert looked > 1


def test_waiting_ends_when_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("e2e.cluster.stages.POLL_SECONDS", 0.01)
    answers = iter(["no address yet", "no address yet", ""])
    clock = Clock(time.monotonic() + 10)

    clock.until(lambda: next(answers))

    assert clock.seen == "no address yet"
    assert next(answers, "all asked") == "all asked"


def test_there_is_always_a_second_left_to_hear_why() -> None:
    assert Clock(time.monotonic() - 100).left == 1.0
