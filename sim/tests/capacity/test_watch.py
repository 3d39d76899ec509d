"""A flight that is cut short gives the verdict of the whole flight, sooner."""

from __future__ import annotations

import pytest

from sim.capacity.decide import Finding, judge
from sim.capacity.planning import plan
from sim.capacity.probing import Flyer
from sim.capacity.search import Candidate, Option, Probe
from sim.capacity.watch import Watch
from sim.experiment.generate import build_workload
from sim.experiment.scenario import LoadedScenario, parse

OPTION = Option((("max_num_seqs", 4),), 1.0, 1, 8)


def flown(loaded: LoadedScenario, replicas: int) -> Probe:
    return Flyer(loaded, build_workload(loaded))(Candidate(OPTION, replicas), loaded.scenario.seed)


@pytest.mark.parametrize("attainment", [0.5, 0.9, 0.97])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_cut_fails_flown_to_its_end_and_what_is_not_gives_the_same_counts(
    monkeypatch: pytest.MonkeyPatch, small_scenario: str, seed: int, attainment: float
) -> None:
    loaded = parse(small_scenario.format(seed=seed, rate=8, cv=2.5, ttft=300, attainment=attainment))
    ours = [flown(loaded, replicas) for replicas in (1, 2, 4)]
    monkeypatch.setattr(Watch, "__call__", lambda self, recorder, now: False)
    whole = [flown(loaded, replicas) for replicas in (1, 2, 4)]

    assert any(probe.is_cut for probe in ours) or attainment < 0.9
    for cut, full in zip(ours, whole, strict=True):
        if not cut.is_cut:
            assert cut == full
            continue
        assert judge(full.classes) is Finding.FAILS
        good, seen = cut.classes[0].seen
        assert good <= full.classes[0].good
        assert seen < full.classes[0].total == cut.classes[0].total
        assert cut.classes[0].good >= full.classes[0].good


def test_a_plan_with_cut_flights_is_the_plan_without(monkeypatch: pytest.MonkeyPatch, small_scenario: str) -> None:
    loaded = parse(small_scenario.format(seed=5, rate=7, cv=2.5, ttft=150, attainment=0.9))
    cut = plan(loaded)
    assert any(row["is_cut"] for row in cut.rows())
    monkeypatch.setattr(Watch, "__call__", lambda self, recorder, now: False)

    assert plan(loaded).sentence == cut.sentence
