"""Flying with several hands changes nothing but the time it takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sim.capacity import crew as crews
from sim.capacity.crew import Crew, Fly, Handle, Processes, RayCluster, hands_for
from sim.capacity.decide import ClassCounts
from sim.capacity.planning import plan
from sim.capacity.search import Candidate, Option, Probe
from sim.experiment.errors import InputError
from sim.experiment.scenario import parse

OPTION = Option((("gpu", "l40s"),), 1.0, 1, 64)


def counted(candidate: Candidate, seed: int) -> Probe:
    return Probe(seed, (ClassCounts("chat", 0.9, ((candidate.replicas, 100 + seed),)),))


class Lazy:
    """Hands whose flights are over only when somebody waits for them."""

    size = 2

    def __init__(self, fly: Fly) -> None:
        self.fly = fly
        self.started: list[tuple[int, int]] = []
        self.has_left = False

    def start(self, candidate: Candidate, seed: int) -> Handle:
        self.started.append((candidate.replicas, seed))
        fly = self.fly

        class Waiting:
            def done(self) -> bool:
                return False

            def result(self) -> Probe:
                return fly(candidate, seed)

        return Waiting()

    def leave(self) -> None:
        self.has_left = True


@pytest.fixture
def lazy(monkeypatch: pytest.MonkeyPatch) -> tuple[Lazy, Callable[[Fly], Lazy]]:
    monkeypatch.setattr(crews, "WORTH_A_CREW_SECONDS", -1.0)
    hands = Lazy(counted)
    return hands, lambda fly: hands


def test_hands_are_called_after_the_first_flight_and_fly_ahead_what_is_likeliest(
    lazy: tuple[Lazy, Callable[[Fly], Lazy]],
) -> None:
    hands, call = lazy
    one, two, three = (Candidate(OPTION, replicas) for replicas in (1, 2, 3))

    with Crew(counted, call) as crew:
        crew.expect([(one, 0), (two, 0)])
        assert hands.started == []
        assert crew.fly(one, 0) == counted(one, 0)
        crew.expect([(two, 0), (three, 0), (three, 1)])
        assert hands.started == [(2, 0), (3, 0)]
        assert crew.fly(two, 0) == counted(two, 0)
        assert crew.fly(three, 0) == counted(three, 0)
        assert hands.started == [(2, 0), (3, 0)]
        assert crew.fly(three, 1) == counted(three, 1)

    assert hands.has_left


def test_a_plan_flown_by_two_processes_is_the_plan_flown_by_one(
    monkeypatch: pytest.MonkeyPatch, small_scenario: str
) -> None:
    monkeypatch.setattr(crews, "WORTH_A_CREW_SECONDS", -1.0)
    loaded = parse(small_scenario.format(seed=3, rate=4, cv=2.5, ttft=300, attainment=0.9))
    alone = plan(loaded)
    together = plan(loaded, call=lambda fly: Processes(fly, 2))

    assert together.rows() == alone.rows()
    assert together.sentence == alone.sentence
    assert together.num_flights == alone.num_flights


def test_one_job_calls_nobody_and_a_missing_ray_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)

    assert hands_for(1, None) is None
    call = hands_for(None, "auto")
    assert call is not None
    with pytest.raises(InputError, match=r"ray is not installed; expected pip install"):
        call(counted)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")  # ray's own, of sockets and processes it leaves to the garbage collector
@pytest.mark.timeout(300)
def test_a_plan_flown_on_ray_is_the_plan_flown_here(monkeypatch: pytest.MonkeyPatch, small_scenario: str) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(crews, "WORTH_A_CREW_SECONDS", -1.0)
    loaded = parse(small_scenario.format(seed=3, rate=4, cv=2.5, ttft=300, attainment=0.9))
    alone = plan(loaded)
    together = plan(loaded, call=lambda fly: RayCluster(fly, "local"))

    assert together.rows() == alone.rows()


@pytest.mark.ray
def test_a_ray_cluster_that_is_not_there_is_told_at_once() -> None:
    pytest.importorskip("ray")
    with pytest.raises(InputError, match=r"--ray 127.0.0.1:1: no Ray cluster answers there"):
        RayCluster(counted, "127.0.0.1:1")
