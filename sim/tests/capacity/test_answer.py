"""What a plan says beside its answer: headroom, what breaks first, and the page; and a plan asked without a file."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.capacity.decide import ClassCounts
from sim.capacity.headroom import headroom, what_breaks
from sim.capacity.page import render_plan
from sim.capacity.planning import plan
from sim.capacity.question import Question
from sim.capacity.search import Probe
from sim.capacity.workloads import hastened
from sim.experiment.generate import build_workload
from sim.experiment.scenario import parse


def flight(good: int, **figures: float) -> Probe:
    broken = (("lost", 0), ("ttft", 1000 - good), ("tpot", 0))
    return Probe(0, (ClassCounts("chat", 0.9, ((good, 1000),), broken),), figures)


@given(edge=st.floats(1.0, 4.0))
def test_headroom_lies_between_a_rate_that_holds_and_one_that_breaks(edge: float) -> None:
    found = headroom(lambda factor: flight(1000 if factor <= edge else 100))

    assert found.factor <= max(1.0, edge)
    if edge >= 3.0:
        assert found.broken_at is None
    else:
        assert found.broken_at is not None
        assert found.broken_at > edge
        assert found.broken_at - found.factor <= 0.13


@pytest.mark.parametrize(
    ("figures", "cause"),
    [
        ({"preemptions": 3.0}, "the KV cache is full"),
        ({"peak_kv_usage": 0.99}, "the KV cache is full"),
        ({"peak_seats": 1.0}, "every seat of the batch is taken"),
        ({}, "prompts wait for their turn"),
    ],
)
def test_what_breaks_first_is_named_with_its_cause(figures: dict[str, float], cause: str) -> None:
    assert what_breaks(flight(100, **figures)).startswith("chat: TTFT is missed, because ")
    assert cause in what_breaks(flight(100, **figures))
    assert what_breaks(flight(1000)) == ""


def test_a_hastened_workload_has_the_same_requests_in_less_time(small_scenario: str) -> None:
    workload = build_workload(parse(small_scenario.format(seed=1, rate=4, cv=1.0, ttft=300, attainment=0.9)))
    faster = hastened(workload, 2.0)

    assert faster.duration_seconds == workload.duration_seconds / 2
    assert [r.scheduled for r in faster.requests] == [r.scheduled / 2 for r in workload.requests]
    assert [r.input_tokens for r in faster.requests] == [r.input_tokens for r in workload.requests]
    assert faster.content_hash != workload.content_hash


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str | None] = set()
        self.addresses: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        fields = dict(attrs)
        self.ids.add(fields.get("id"))
        self.addresses += [fields[name] for name in ("src", "href") if name in fields]


def test_the_page_tells_the_answer_and_draws_what_was_flown_without_asking_the_network(small_scenario: str) -> None:
    loaded = parse(small_scenario.format(seed=4, rate=4, cv=1.0, ttft=300, attainment=0.9))
    answer = plan(loaded, within=4.0, with_headroom=True)
    html = render_plan(answer)
    page = Page(html)

    assert answer.choice is not None
    assert answer.sentence in html
    assert answer.headroom_sentence in html
    assert {"frontier-cost", "frontier-speed", "candidates"} <= page.ids
    assert all(address is not None and address.startswith("data:") for address in page.addresses)
    match = re.search(r'<script type="application/json" id="drawn">(.*?)</script>', html, re.DOTALL)
    assert match is not None
    points = json.loads(match[1])["frontier"]
    assert len(points) == len(answer.rows())
    assert [point["replicas"] for point in points if point["best"]] == [answer.choice.candidates[0].replicas]
    assert render_plan(answer) == html


def asked(**changes: object) -> Question:
    fields: dict[str, object] = {
        "model": "Llama-3.1-8B-Instruct",
        "rate": 20.0,
        "input_tokens": 1200,
        "output_tokens": 250,
        "ttft": 0.5,
        "tpot": 0.04,
        "e2e": None,
        "attainment": 0.95,
        "gpus": ("h100-sxm", "l40s"),
        "tensor_parallel": (1,),
        "max_replicas": 16,
        "minimise": "cost_per_hour",
    }
    return Question(**(fields | changes))  # type: ignore[arg-type]


def test_a_question_becomes_the_scenario_that_it_says() -> None:
    loaded = parse(asked().scenario())
    scenario, workload = loaded.scenario, build_workload(loaded)

    assert scenario.name == "plan-llama-3-1-8b-instruct"
    assert scenario.workload.classes[0].slo.ttft == 0.5
    assert scenario.plan is not None
    assert scenario.plan.vary == {"replicas": "1..16", "gpu": ("h100-sxm", "l40s")}
    assert len(workload.requests) / workload.duration_seconds == pytest.approx(20, rel=0.05)
    inputs = [request.input_tokens for request in workload.requests]
    assert sum(inputs) / len(inputs) == pytest.approx(1200, rel=0.05)


@given(rate=st.floats(0.01, 500), tokens=st.integers(1, 9000))
def test_every_question_is_a_scenario(rate: float, tokens: int) -> None:
    question = asked(rate=rate, input_tokens=tokens, output_tokens=tokens, tensor_parallel=(1, 2))

    assert parse(question.scenario()).scenario.workload.arrivals is not None
