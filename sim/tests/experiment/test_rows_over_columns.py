"""Samples and decisions are kept as numbers in lists and read as rows: the rows are those that were put in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.experiment.decisions import Decision, Decisions
from sim.experiment.samples import Sample, Samples

NAMES = st.sampled_from(["replica/vllm-0", "replica/vllm-1", "router"])
MEASURES = st.sampled_from(["running", "queue"])
ROWS = st.lists(st.tuples(st.floats(0, 100), NAMES, MEASURES, st.floats(0, 1)))
SCORES = st.lists(st.tuples(st.text(max_size=3), st.floats(0, 1)), max_size=2).map(tuple)
DECISIONS = st.lists(
    st.tuples(st.floats(0, 9), st.integers(0, 9), st.integers(1, 3), st.text(max_size=3), st.text(max_size=3), SCORES)
)


@given(ROWS)
def test_samples_give_back_their_rows_series_after_series(rows: list[Sample]) -> None:
    samples = Samples(rows)

    seen = {row[1:3]: None for row in rows}
    assert list(samples) == [row for series in seen for row in rows if row[1:3] == series]
    assert len(samples) == len(rows)
    assert Samples(samples) == samples
    assert {(name, measure): list(zip(at, values, strict=True)) for name, measure, at, values in samples.series()} == {
        series: [(row[0], row[3]) for row in rows if row[1:3] == series] for series in seen
    }


def test_series_that_share_their_instants_grow_together() -> None:
    samples, instants = Samples(), [0.0]
    running, queue = [1.0], [2.0]
    samples.add("router", "running", instants, running)
    samples.add("router", "queue", instants, queue)
    samples.add("router", "never", [], [])
    for values, value in ((instants, 1.0), (running, 3.0), (queue, 4.0)):
        values.append(value)

    assert list(samples) == [
        (0.0, "router", "running", 1.0),
        (1.0, "router", "running", 3.0),
        (0.0, "router", "queue", 2.0),
        (1.0, "router", "queue", 4.0),
    ]


def test_a_measure_of_a_component_has_one_series() -> None:
    samples = Samples([(0.0, "router", "queue", 1.0)])

    with pytest.raises(ValueError, match="router: queue is sampled already"):
        samples.add("router", "queue", [], [])
    more = samples.copy()
    more.add("router", "in_flight", [0.0], [1.0])
    assert (len(samples), len(more)) == (1, 2)


@given(DECISIONS)
def test_decisions_are_a_list_of_their_rows(rows: list[Decision]) -> None:
    decisions = Decisions([value for row in rows for value in row])

    assert list(decisions) == rows
    assert decisions == rows
    assert repr(decisions) == repr(rows)
    assert len(decisions) == len(rows)
    assert [decisions[place] for place in range(-len(rows), len(rows))] == rows + rows
    assert decisions[1:-1] == rows[1:-1]
    with pytest.raises(IndexError):
        decisions[len(rows)]
