"""The order of simultaneous calls, and that simpy's own events live beside them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sim.cluster.clock import Clock, Turn


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(list(Turn)), st.integers(0, 5))))
def test_calls_happen_by_time_then_turn_then_index_then_order_of_asking(
    asked: list[tuple[int, Turn, int]],
) -> None:
    clock = Clock()
    seen: list[tuple[int, int]] = []
    for number, (at, turn, index) in enumerate(asked):
        clock.call_at(float(at), turn + index, lambda entry: seen.append(entry), (number, at))
    clock.run(until=clock.timeout(9.0))
    wanted = sorted(
        range(len(asked)), key=lambda number: (asked[number][0], asked[number][1] + asked[number][2], number)
    )
    assert [number for number, _ in seen] == wanted


def test_processes_of_simpy_run_beside_calls() -> None:
    clock = Clock()
    seen: list[tuple[float, str]] = []

    def process() -> object:
        for _ in range(3):
            yield clock.timeout(1.0)
            seen.append((clock.now, "process"))
        return "done"

    clock.call_at(1.5, Turn.STEP, lambda _: seen.append((clock.now, "call")))
    assert clock.run(until=clock.process(process())) == "done"
    assert seen == [(1.0, "process"), (1.5, "call"), (2.0, "process"), (3.0, "process")]


def test_a_repeated_call_does_not_drift() -> None:
    """Ten thousand tenths are a thousand: each instant is a product, not a sum."""
    clock = Clock()
    instants: list[float] = []
    clock.every(0.1, Turn.SAMPLE, instants.append)
    clock.run(until=clock.timeout(1000.05))
    assert len(instants) == 10_000
    assert abs(instants[-1] - 1000.0) < 1e-9


def test_steps_of_the_agenda_can_be_taken_singly() -> None:
    clock = Clock()
    seen: list[float] = []
    clock.call_at(2.0, Turn.STEP, seen.append, 2.0)
    clock.timeout(1.0).callbacks.append(lambda _: seen.append(1.0))
    clock.step()
    clock.step()
    assert seen == [1.0, 2.0]
