"""Batches: nobody is lost or overtaken, none costs more than allowed, none waits longer than allowed without need."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from reference.worker.bert.batching import BatchQueue, BatchRules, Text

rules = st.builds(BatchRules, st.integers(1, 8), st.integers(1, 60), st.just(0.01))
lengths = st.lists(st.integers(1, 30), min_size=1, max_size=40)


def queue_of(rules: BatchRules, lengths: list[int]) -> tuple[BatchQueue, list[Text]]:
    queue = BatchQueue(rules)
    texts = [Text([7] * length, float(place)) for place, length in enumerate(lengths)]
    for text in texts:
        queue.put(text)
    return queue, texts


@given(rules, lengths)
def test_every_text_is_taken_once_and_in_order_of_arrival(rules: BatchRules, lengths: list[int]) -> None:
    queue, texts = queue_of(rules, lengths)

    taken = []
    while batch := queue.take():
        taken += batch

    assert taken == texts
    assert len(queue) == queue.num_tokens == 0


@given(rules, lengths)
def test_a_batch_costs_no_more_than_allowed_unless_it_is_a_single_text(rules: BatchRules, lengths: list[int]) -> None:
    queue, _ = queue_of(rules, lengths)

    while batch := queue.take():
        assert len(batch) <= rules.max_texts
        assert len(batch) == 1 or max(len(text.tokens) for text in batch) * len(batch) <= rules.max_tokens


@given(rules, lengths)
def test_a_batch_that_is_not_the_last_could_not_have_taken_the_next_text(rules: BatchRules, lengths: list[int]) -> None:
    queue, _ = queue_of(rules, lengths)
    batches = []
    while batch := queue.take():
        batches.append(batch)

    for batch, after in pairwise(batches):
        longest = max(len(text.tokens) for text in [*batch, after[0]])
        assert len(batch) == rules.max_texts or longest * (len(batch) + 1) > rules.max_tokens


@given(rules, lengths, st.data())
def test_who_leaves_is_in_no_batch_and_everybody_else_is(
    rules: BatchRules, lengths: list[int], data: st.DataObject
) -> None:
    queue, texts = queue_of(rules, lengths)
    leaving = data.draw(st.lists(st.sampled_from(texts), unique_by=id))

    for text in leaving:
        queue.leave(text)
        queue.leave(text)
    assert queue.num_tokens == sum(len(text.tokens) for text in texts if text not in leaving)
    taken = []
    while batch := queue.take():
        taken += batch

    assert taken == [text for text in texts if text not in leaving]


@given(rules, lengths)
def test_a_full_batch_is_ready_at_once_and_any_other_when_its_oldest_text_has_waited(
    rules: BatchRules, lengths: list[int]
) -> None:
    queue, texts = queue_of(rules, lengths)
    ready_at = queue.ready_at()
    oldest = texts[0].came_at
    is_full = len(queue.take()) < len(texts) or ready_at == oldest

    assert ready_at == (oldest if is_full else oldest + rules.max_wait_seconds)


def test_an_empty_queue_is_never_ready() -> None:
    queue = BatchQueue(BatchRules(4, 100, 0.01))

    assert queue.ready_at() is None
    assert queue.take() == []


def test_a_lone_text_waits_for_company() -> None:
    queue, _ = queue_of(BatchRules(4, 100, 0.01), [5])

    assert queue.ready_at() == 0.01
